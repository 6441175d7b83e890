"""Log-likelihoods of reference answers given image and question, and of whole documents (Figure 1, left)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from vrx.config.errors import UserError
from vrx.data.batch import TrainingSample, collate
from vrx.data.instructions.encoding import IGNORE
from vrx.evaluation.generation import EncodedSample, Generator
from vrx.evaluation.watched_logits import no_numbers
from vrx.metrics.answer import Answer
from vrx.models.log_likelihood import negative_log_likelihood
from vrx.models.lvlm import decoder


def loglikelihoods(generator: Generator, batch: Sequence[EncodedSample]) -> list[Answer]:
    """The answers of a batch with `log_likelihood` in nats and the number of tokens, words and bytes it is over.

    For a sample with references, it is that of the first reference and the end token after it, as in training; for a
    document, that of the whole text. A forward pass has as many rows (references or windows) as there are samples.
    `UserError` for a log-likelihood that is no number.
    """
    rows = [(number, row) for number, encoded in enumerate(batch) for row in _rows(generator, encoded)]
    totals, num_tokens = [0.0] * len(batch), [0] * len(batch)
    for first in range(0, len(rows), len(batch)):
        chunk = rows[first : first + len(batch)]
        inputs = collate([row for _, row in chunk], pad_token_id=generator.pad_token_id)
        losses, counts = negative_log_likelihood(generator.lvlm, inputs)
        for (number, _), loss, count in zip(chunk, losses.tolist(), counts.tolist(), strict=True):
            totals[number] += loss
            num_tokens[number] += int(count)
    answers = []
    for encoded, total, count in zip(batch, totals, num_tokens, strict=True):
        if not math.isfinite(total):
            raise no_numbers(encoded.sample, generator.lvlm.dtype)
        answer = encoded.sample.answer
        if answer.references:
            text = answer.references[0]
            answer = dataclasses.replace(answer, num_words=len(text.split()), num_bytes=len(text.encode()))
        answers.append(dataclasses.replace(answer, log_likelihood=-total, num_tokens=count))
    return answers


def rolling_windows(ids: Sequence[int], *, begin: int, length: int) -> Iterator[tuple[list[int], list[int]]]:
    """A text as windows (input_ids, labels) in which each token is labelled once, as in lm-eval's rolling windows.

    `begin` precedes the first token. A window predicts at most `length` tokens and is at most `length` + 1 long; the
    last one, which has fewer tokens to predict, starts early enough to give its first label the longest context.
    """
    tokens = [begin, *ids]
    done = 1
    while done < len(tokens):
        end = min(done + length, len(tokens))
        start = max(0, end - 1 - length)
        yield tokens[start:end], [IGNORE] * (done - start) + tokens[done:end]
        done = end


def _rows(generator: Generator, encoded: EncodedSample) -> Iterator[TrainingSample]:
    """The rows whose labels are what is predicted: a conversation, or the windows of a document."""
    if encoded.sample.answer.references:
        yield _conversation(generator, encoded)
        return
    ids = generator.tokenizer(encoded.sample.prompt, add_special_tokens=False, verbose=False)["input_ids"]
    length = decoder(generator.lvlm).config.max_position_embeddings
    begin = generator.tokenizer.bos_token_id
    begin = generator.tokenizer.eos_token_id if begin is None else begin
    for window, labels in rolling_windows(list(ids), begin=int(begin), length=length):  # type: ignore[arg-type]
        yield TrainingSample(window, labels)


def _conversation(generator: Generator, encoded: EncodedSample) -> TrainingSample:
    """Question and reference as a training sample; `UserError` for a reference without a token."""
    row, answer = generator.training_sample(encoded), encoded.sample.answer
    if all(label == IGNORE for label in row.labels):
        raise UserError(f"sample {answer.id}: its reference {answer.references[0]!r} has no token to count")
    return row
