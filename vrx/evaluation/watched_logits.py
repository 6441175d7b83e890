"""What is read from an LVLM's logits while it generates, without changing them."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from vrx.config.errors import UserError
from vrx.evaluation.families import Sample


class FirstTokenLogProbs(LogitsProcessor):
    """Records the log-probabilities of some tokens at the first new position and changes nothing.

    `rows` is (batch, tokens).
    """

    def __init__(self, token_ids: list[int]) -> None:
        self.token_ids = token_ids
        self.rows: list[list[float]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        if not self.rows:
            self.rows = scores.float().log_softmax(-1)[:, self.token_ids].cpu().tolist()
        return scores


class AreNumbers(LogitsProcessor):
    """Watches whether the logits of each answer are numbers at all its positions, and changes nothing."""

    def __init__(self) -> None:
        self._all: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        are_numbers = scores.amax(-1).isfinite()  # NaN where one is NaN; -inf is a token that may not come
        self._all = are_numbers if self._all is None else self._all & are_numbers
        return scores

    @property
    def rows(self) -> list[bool]:
        """Of each answer, in their order."""
        assert self._all is not None, "an answer has at least one token"
        return self._all.tolist()


def no_numbers(sample: Sample, dtype: torch.dtype) -> UserError:
    """The error for a question on which an LVLM computes NaN or infinity, whose answer would mean nothing."""
    return UserError(
        f"sample {sample.answer.id}: the LVLM computes NaN or infinity instead of an answer; its weights are damaged, "
        f"or numbers are too large for train.dtype={str(dtype).removeprefix('torch.')}"
    )
