"""Prunes layers and measures what that saves."""
