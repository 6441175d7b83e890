"""Selectors, which choose the decoder layers to tune, and the importance formulas that rank layers."""

from vrx.selectors.rules import (
    all,
    consecutive,
    fixed,
    hybrid_top_lower,
    most_important,
    random,
    sparse_uniform,
)

__all__ = [
    "all",
    "consecutive",
    "fixed",
    "hybrid_top_lower",
    "most_important",
    "random",
    "sparse_uniform",
]
