"""Instruction data, images, chat templates, tokens and batches."""
