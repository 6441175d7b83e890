"""Fine-tunes the selected layers and measures the result."""
