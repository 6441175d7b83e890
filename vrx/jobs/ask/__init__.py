"""Answers a question about a picture, or holds a conversation in the terminal."""
