"""Instruction data and captions as LLaVA and Bunny take them: files, templates, tokens."""
