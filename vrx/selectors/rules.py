"""Layer selectors: pure functions `(num_layers, k) -> layers` that choose the decoder layers to tune.

Layers are numbered from 0; every selector returns distinct layers in ascending order. Sources: paper, section 4.1 and
footnote 2.
"""

from __future__ import annotations

import random as _random
from collections.abc import Sequence

from vrx.config.errors import UserError

Layers = tuple[int, ...]


def _check_count(num_layers: int, k: int) -> None:
    if not 1 <= k <= num_layers:
        raise UserError(f"layer_count.k={k}: valid are 1 to {num_layers}, the decoder layers of the model")


def all(num_layers: int, k: int) -> Layers:
    """Every decoder layer, independent of `k`: the upper bound that the paper compares with."""
    return tuple(range(num_layers))


def sparse_uniform(num_layers: int, k: int, *, offset: int = 0) -> Layers:
    """Layers with even numbers, spread evenly over the depth: the paper's choice.

    2 * round(linspace(0, L/2 - 1, k)) gives every list in the paper for L = 32 (k = 16, 8, 6, 4); for k = 2, 1 it has
    (0, L-1) and (L-1). Above L/2 layers there are not enough even numbers: round(linspace(0, L-1, k)).
    `offset=1` with k = 8 is the default of the authors' released code (1, 5, 9, 13, 19, 23, 27, 31).
    """
    _check_count(num_layers, k)
    if k == 1:
        layers = [num_layers - 1]
    elif k == 2:
        layers = [0, num_layers - 1]
    elif k <= num_layers // 2:
        layers = [2 * round(i * (num_layers // 2 - 1) / (k - 1)) for i in range(k)]
    else:
        layers = [round(i * (num_layers - 1) / (k - 1)) for i in range(k)]
    return fixed(num_layers, k, layers=[layer + offset for layer in layers])


def consecutive(num_layers: int, k: int, *, start: str | int) -> Layers:
    """One block of `k` layers from `start` on: a layer, or lower, lower_middle, upper_middle or top.

    These names stand for layers 0, L/4 and L/2, and for the last `k` layers.
    """
    _check_count(num_layers, k)
    named_starts = {"lower": 0, "lower_middle": num_layers // 4, "upper_middle": num_layers // 2, "top": num_layers - k}
    if start not in named_starts and not str(start).isdecimal():
        raise UserError(f"selector.start={start}: valid are {', '.join(named_starts)} or a layer")
    first = named_starts[start] if start in named_starts else int(start)
    if not 0 <= first <= num_layers - k:
        raise UserError(f"selector.start={start}: a block of {k} layers must start at 0 to {num_layers - k}")
    return tuple(range(first, first + k))


def hybrid_top_lower(num_layers: int, k: int) -> Layers:
    """The lowest and the topmost layers, half of `k` each; for odd `k` one more low layer."""
    _check_count(num_layers, k)
    top = k // 2
    return (*range(k - top), *range(num_layers - top, num_layers))


def random(num_layers: int, k: int, *, seed: int) -> Layers:
    """`k` layers drawn without replacement: a control that the paper does not have."""
    _check_count(num_layers, k)
    return tuple(sorted(_random.Random(seed).sample(range(num_layers), k)))


def most_important(num_layers: int, k: int, *, scores: Sequence[float | None], reverse: bool = False) -> Layers:
    """The `k` layers with the highest scores, with `reverse` the lowest; ties go to the lower layer.

    A layer whose score is None, such as an attention score of a layer without attention, is not chosen.
    """
    _check_count(num_layers, k)
    if len(scores) != num_layers:
        raise UserError(f"{len(scores)} importance scores for a model with {num_layers} decoder layers")
    sign = 1 if reverse else -1
    keys = [(sign * score, layer) for layer, score in enumerate(scores) if score is not None]
    if k > len(keys):
        raise UserError(f"layer_count.k={k}: only {len(keys)} of the {num_layers} layers have this importance score")
    return tuple(sorted(layer for _, layer in sorted(keys)[:k]))


def fixed(num_layers: int, k: int, *, layers: Sequence[int]) -> Layers:
    """An explicit list of `k` layers; `UserError` for duplicates and for layers outside the decoder."""
    chosen = sorted(layers)
    if not chosen:
        raise UserError(f"selector.layers=[]: name at least one of the layers 0 to {num_layers - 1}")
    if duplicates := sorted({layer for layer in chosen if chosen.count(layer) > 1}):
        raise UserError(f"selector.layers={list(layers)}: duplicate layer {', '.join(map(str, duplicates))}")
    outside = [layer for layer in chosen if not 0 <= layer < num_layers]
    if outside:
        raise UserError(f"selector.layers={list(layers)}: {outside} not among the layers 0 to {num_layers - 1}")
    if len(chosen) != k:
        raise UserError(f"layer_count.k={k}: must be {len(chosen)}, the number of layers in the selector")
    return tuple(chosen)
