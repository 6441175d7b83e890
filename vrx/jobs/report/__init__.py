"""Writes every table and figure."""
