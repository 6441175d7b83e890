"""Visual-region experiments: selective-layer LoRA tuning and pruning of large vision-language models."""

__version__ = "0.1.0"
