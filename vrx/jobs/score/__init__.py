"""Computes importance scores of every decoder layer."""
