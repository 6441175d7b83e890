"""Scores answers that another program generated, and writes ours for other programs to score."""
