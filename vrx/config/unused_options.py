"""Options that were typed and mean nothing to the job: refused, as whoever typed them expected an effect."""

from __future__ import annotations

from collections.abc import Sequence

from vrx.config.command_line import FREE_TEXTS
from vrx.config.errors import UserError

ASKING = ("ask", "compare")
UNUSED = {  # job: {key or its first part: why it has no effect}
    "pretrain": {
        "selector": "vrx pretrain tunes no decoder layer",
        "layer_count": "vrx pretrain tunes no decoder layer",
        "lora": "vrx pretrain adds no adapters",
        "model.projector": "vrx pretrain starts from a fresh projector of the run's seed",
    }
}


def refuse_unused(job: str, overrides: Sequence[str]) -> None:
    """Refuse overrides that mean nothing to a job: `UserError` with the first of them."""
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key in FREE_TEXTS and job not in ASKING:
            raise UserError(f"{override}: only vrx {' and vrx '.join(ASKING)} take it; leave it out")
        for unused, reason in UNUSED.get(job, {}).items():
            if key == unused or key.startswith(f"{unused}."):
                raise UserError(f"{override}: {reason}; leave it out")
