"""Selectors: which decoder layers to tune, as pure rules; and the importance formulas that order layers."""

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
