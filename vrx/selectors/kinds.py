"""Selections among decoder layers of several kinds, such as full and linear attention.

A rule that knows only numbers may miss a kind: sparse-uniform takes even layers, and in current models the layers of
full attention are odd ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vrx.config.errors import UserError

ANY, EACH = "any", "each"
SHORT = {"full": "full_attention", "linear": "linear_attention", "sliding": "sliding_attention"}
Layers = tuple[int, ...]
Rule = Callable[[Sequence[int], int], Layers]  # (layers to choose among, how many) -> positions among them


def select(kinds: Sequence[str], k: int, *, wanted: str, rule: Rule) -> Layers:
    """Apply a rule within one kind, or with `each` within every kind.

    kinds: of every decoder layer. With `each`, a kind gets layers in proportion to its number, at least one; what is
    left goes to the largest remainders.
    """
    if wanted != EACH:
        kind = SHORT.get(wanted, wanted)
        counts = {kind: k}
        if kind not in kinds:
            valid = f"{ANY}, {EACH}, {', '.join(dict.fromkeys(kinds))}"
            raise UserError(f"selector.kinds={wanted}: no decoder layer is of this kind; valid are {valid}")
    else:
        counts = _shares(kinds, k)
    chosen: list[int] = []
    for kind, count in counts.items():
        layers = [layer for layer, other in enumerate(kinds) if other == kind]
        if not 1 <= count <= len(layers):
            raise UserError(f"layer_count.k={k}: {len(layers)} decoder layers are of the kind {kind}")
        chosen += [layers[position] for position in rule(layers, count)]
    return tuple(sorted(chosen))


def missed(kinds: Sequence[str], layers: Sequence[int]) -> dict[str, int]:
    """The kinds of which no layer was chosen, with the number of their layers."""
    chosen = {kinds[layer] for layer in layers}
    return {kind: list(kinds).count(kind) for kind in dict.fromkeys(kinds) if kind not in chosen}


def _shares(kinds: Sequence[str], k: int) -> dict[str, int]:
    sizes = {kind: list(kinds).count(kind) for kind in dict.fromkeys(kinds)}
    if k < len(sizes):
        raise UserError(f"layer_count.k={k}: selector.kinds={EACH} needs a layer of each of {', '.join(sizes)}")
    shares = {kind: max(1, k * size // len(kinds)) for kind, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda kind: (-(k * sizes[kind] % len(kinds)), kind))
    while (left := k - sum(shares.values())) != 0:
        for kind in by_remainder if left > 0 else by_remainder[::-1]:
            step = 1 if left > 0 else -1
            if left and 1 <= shares[kind] + step <= sizes[kind]:
                shares[kind] += step
                left -= step
    return shares
