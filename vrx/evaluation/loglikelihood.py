"""Perplexity of an LVLM: of reference answers given image and question, and of whole texts (Figure 1, left)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.data.batch import TrainingSample, collate
from vrx.data.chat_templates import IMAGE_TAG
from vrx.data.encoding import IGNORE, expand_images, tokenize
from vrx.data.image_processing import open_rgb
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import Generator, Respond, answer_texts
from vrx.metrics import aggregate
from vrx.metrics.answer import Answer
from vrx.models.probe import negative_log_likelihood


def perplexity_of(generator: Generator, samples: Sequence[Sample], *, batch_size: int = 16) -> dict[str, float]:
    """Perplexity of samples by `token`, `word` and `byte`, and `bits_per_byte`, of the LVLM as it is in memory.

    What is predicted is the first reference of each sample and the end token after it, as in training; of a sample
    without references, a document, the whole text.
    """
    found: list[Answer] = []
    for first in range(0, len(samples), batch_size):
        found += likelihoods(generator, list(samples[first : first + batch_size]))
    return aggregate.perplexity(found)


def responder(generator: Generator, config: BenchmarkConfig) -> Respond:
    """How the samples of a benchmark are put to an LVLM, by its `output_type`."""
    if config.output_type == "loglikelihood":
        return lambda samples, _: likelihoods(generator, samples)
    return answer_texts(generator, config.max_new_tokens, weigh_letters=config.output_type == "letters")


def likelihoods(generator: Generator, samples: list[Sample]) -> list[Answer]:
    """The answers of a batch of samples with their log-likelihoods, and over how many tokens, words and bytes.

    As many windows go through the LVLM at a time as there are samples.
    """
    pieces = [(number, piece) for number, sample in enumerate(samples) for piece in _pieces(generator, sample)]
    totals, tokens = [0.0] * len(samples), [0] * len(samples)
    pad = int(generator.tokenizer.pad_token_id)  # type: ignore[arg-type]
    for first in range(0, len(pieces), len(samples)):
        chunk = pieces[first : first + len(samples)]
        losses, counts = negative_log_likelihood(
            generator.lvlm, collate([piece for _, piece in chunk], pad_token_id=pad)
        )
        for (number, _), loss, count in zip(chunk, losses.tolist(), counts.tolist(), strict=True):
            totals[number] += loss
            tokens[number] += int(count)
    answers = []
    for sample, total, count in zip(samples, totals, tokens, strict=True):
        answer = sample.answer
        if answer.references:
            text = answer.references[0]
            answer = dataclasses.replace(answer, num_words=len(text.split()), num_bytes=len(text.encode()))
        answers.append(dataclasses.replace(answer, log_likelihood=-total, num_tokens=count))
    return answers


def _pieces(generator: Generator, sample: Sample) -> Iterator[TrainingSample]:
    if sample.answer.references:
        yield _conversation(generator, sample)
        return
    ids = generator.tokenizer(sample.prompt, add_special_tokens=False, verbose=False)["input_ids"]
    length = generator.lvlm.model.language_model.config.max_position_embeddings
    begin = generator.tokenizer.bos_token_id
    begin = generator.tokenizer.eos_token_id if begin is None else begin
    for window, labels in rolling(list(ids), begin=int(begin), length=length):  # type: ignore[arg-type]
        yield TrainingSample(window, labels)


def _conversation(generator: Generator, sample: Sample) -> TrainingSample:
    """A question and its reference answer as a sample of training is, the answer and its end token labelled."""
    config, has_image = generator.config, sample.image is not None
    asked = f"{IMAGE_TAG}\n{sample.prompt}" if has_image and IMAGE_TAG not in sample.prompt else sample.prompt
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": sample.answer.references[0]}]
    encoded = tokenize(turns, generator.tokenizer, config.template, has_image=has_image)
    if all(label == IGNORE for label in encoded.labels):
        raise UserError(
            f"sample {sample.answer.id}: its reference {sample.answer.references[0]!r} has no token to count"
        )
    ids, labels = expand_images(
        encoded.input_ids,
        encoded.labels,
        image_token_id=generator.image_token_id,
        num_image_tokens=config.num_image_tokens,
    )
    pixels = generator.pixels(open_rgb(sample.image)) if sample.image else None
    return TrainingSample(ids, labels, pixels)


def rolling(ids: Sequence[int], *, begin: int, length: int) -> Iterator[tuple[list[int], list[int]]]:
    """A text as windows (input_ids, labels) in which each of its tokens is labelled once, as lm-eval rolls them.

    `begin` stands before the first token. A window predicts at most `length` tokens from as many before them; the last
    one, which has fewer to predict, reaches back so far that its first token has the longest context there can be.
    """
    whole = [begin, *ids]
    done = 1
    while done < len(whole):
        end = min(done + length, len(whole))
        start = max(0, end - 1 - length)
        yield whole[start:end], [IGNORE] * (done - start) + whole[done:end]
        done = end
