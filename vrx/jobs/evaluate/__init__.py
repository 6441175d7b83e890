"""Scores the base model or a finished run."""
