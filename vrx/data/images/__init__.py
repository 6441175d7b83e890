"""Picture files: their size, pixels, checks and digest."""
