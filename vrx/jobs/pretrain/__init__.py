"""Trains the projector between a vision tower and a backbone on captions."""
