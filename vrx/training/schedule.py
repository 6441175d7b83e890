"""Learning-rate schedules, by transformers' names."""

from __future__ import annotations

import math

DEFAULT = "cosine"  # of the paper's runs


def lr_factor(step: int, num_steps: int, *, warmup_ratio: float, scheduler: str | None = None) -> float:
    """The factor on every learning rate at a step, in [0, 1]; the same as transformers' schedule of that name.

    scheduler: cosine (a half cosine down to 0), linear (down to 0), constant (no warm-up either), constant_with_warmup;
    None means cosine. The warm-up rises linearly from 0 over `warmup_ratio` of the steps.
    """
    name = scheduler or DEFAULT
    if name == "constant":
        return 1.0
    warmup = math.ceil(num_steps * warmup_ratio)
    if step < warmup:
        return step / warmup
    if name == "constant_with_warmup":
        return 1.0
    total = max(1, num_steps - warmup)
    if name == "linear":
        return max(0.0, (num_steps - step) / total)
    assert name == DEFAULT, "validated before"
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / total))
