"""Benchmarks the speed of recipes and layer counts."""
