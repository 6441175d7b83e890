"""Runs every run of a sweep."""
