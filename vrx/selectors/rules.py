"""Layer selectors: pure functions `(num_layers, k) -> layers` that say which decoder layers are tuned.

Layers count from 0; every selector returns them ascending and distinct. Sources: paper, section 4.1 and footnote 2.
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
    """Every decoder layer, whatever `k`: the upper bound the paper compares with."""
    return tuple(range(num_layers))


def sparse_uniform(num_layers: int, k: int, *, offset: int = 0) -> Layers:
    """Layers spread evenly over the depth, on even places: the paper's choice.

    2 * round(linspace(0, L/2 - 1, k)) gives every list the paper prints for L = 32 (k = 16, 8, 6, 4); for k = 2 and 1
    the paper takes (0, L-1) and (L-1). Above L/2 layers there are not enough even places: round(linspace(0, L-1, k)).
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
    """One block of `k` layers; `start` is a layer or a place: lower, lower_middle, upper_middle, top.

    The places are the quarters of the decoder (0, L/4, L/2) and, for top, the last `k` layers.
    """
    _check_count(num_layers, k)
    places = {"lower": 0, "lower_middle": num_layers // 4, "upper_middle": num_layers // 2, "top": num_layers - k}
    if start not in places and not str(start).isdecimal():
        raise UserError(f"selector.start={start}: valid are {', '.join(places)} or the number of a layer")
    first = places[start] if start in places else int(start)
    if not 0 <= first <= num_layers - k:
        raise UserError(f"selector.start={start}: a block of {k} layers from {first} leaves the {num_layers} layers")
    return tuple(range(first, first + k))


def hybrid_top_lower(num_layers: int, k: int) -> Layers:
    """The lowest and the topmost layers, half of `k` each (the odd one is a low one)."""
    _check_count(num_layers, k)
    top = k // 2
    return (*range(k - top), *range(num_layers - top, num_layers))


def random(num_layers: int, k: int, *, seed: int) -> Layers:
    """`k` layers drawn without replacement: the control the paper lacks."""
    _check_count(num_layers, k)
    return tuple(sorted(_random.Random(seed).sample(range(num_layers), k)))


def most_important(num_layers: int, k: int, *, scores: Sequence[float], reverse: bool = False) -> Layers:
    """The `k` layers of the highest score, or reversed of the lowest; among equals the lower layer."""
    _check_count(num_layers, k)
    if len(scores) != num_layers:
        raise UserError(f"{len(scores)} importance scores for a model of {num_layers} decoder layers")
    sign = 1 if reverse else -1
    return tuple(sorted(sorted(range(num_layers), key=lambda layer: (sign * scores[layer], layer))[:k]))


def fixed(num_layers: int, k: int, *, layers: Sequence[int]) -> Layers:
    """An explicit list; refused where it repeats a layer, leaves the decoder, or is not `k` long."""
    chosen = sorted(layers)
    if not chosen:
        raise UserError(f"selector.layers=[]: name at least one of the layers 0 to {num_layers - 1}")
    if len(set(chosen)) != len(chosen):
        raise UserError(f"selector.layers={list(layers)}: a layer stands there twice")
    outside = [layer for layer in chosen if not 0 <= layer < num_layers]
    if outside:
        raise UserError(f"selector.layers={list(layers)}: {outside} not among the layers 0 to {num_layers - 1}")
    if len(chosen) != k:
        raise UserError(f"layer_count.k={k}: the selector names {len(chosen)} layers, valid here is {len(chosen)}")
    return tuple(chosen)
