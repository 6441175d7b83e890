"""Conversations of any layout for models with a processor and a chat template of their own."""
