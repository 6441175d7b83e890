"""One question about one picture: the answer as it comes, and how probable other answers are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TextStreamer

from vrx.config.errors import BadImage, UserError
from vrx.config.plain_text import visible
from vrx.config.schema import RunConfig
from vrx.data.batch import collate
from vrx.data.images.processing import open_rgb
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import EncodedSample, Generator
from vrx.evaluation.loglikelihood import loglikelihoods
from vrx.metrics.answer import Answer
from vrx.models.lvlm import forward_inputs


def load_asked(run: RunConfig, folder: Path) -> Generator:
    """The LVLM of the finished run that `job.run` names, else the model before tuning; folder: a worker's own."""
    return Generator.load(run, folder if run.job.run is None else Path(run.job.run))


def require_picture(path: str | None) -> Path | None:
    """The picture of the key `image`, before the weights are loaded; `UserError` for a file that is none."""
    if path is None:
        return None
    try:
        open_rgb(Path(path))
    except BadImage as error:
        raise UserError(f"image={error}; valid is a picture such as PNG or JPEG") from None
    return Path(path)


def encode_conversation(generator: Generator, turns: Sequence[str], image: Path | None) -> EncodedSample:
    """The conversation so far, questions and answers in turn, a question last; the picture is in the first one."""
    sample = Sample(turns[0], image, Answer("question", "", ()))
    return generator.encode(sample) if len(turns) == 1 else generator.encode_turns(sample, turns[1:])


class VisibleText(TextStreamer):
    """Writes an answer word by word; of what a terminal would act on, only line breaks and tabs work."""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        super().on_finalized_text(visible(text, keep="\n\t"), stream_end)


def stream_answer(generator: Generator, encoded: EncodedSample, max_new_tokens: int) -> str:
    """Answer greedily and write each word to the terminal as it is there; returns the answer."""
    streamer = VisibleText(generator.tokenizer, skip_prompt=True, skip_special_tokens=True)
    return generator.answer([encoded], max_new_tokens, streamer=streamer)[0]


def answer_with_probabilities(
    generator: Generator,
    question: str,
    image: Path | None,
    *,
    options: Sequence[str],
    num_tokens: int,
    max_new_tokens: int,
) -> dict[str, Any]:
    """The greedy answer as `text`, and as `probabilities` pairs of a text and its probability in [0, 1].

    They are of the options as whole answers; without options of the `num_tokens` most probable first tokens.
    """
    encoded = encode_conversation(generator, [question], image)
    if options:
        pairs = list(zip(options, option_probabilities(generator, encoded, options), strict=True))
    else:
        pairs = first_tokens(generator, encoded, num_tokens)
    return {"text": generator.answer([encoded], max_new_tokens)[0], "probabilities": pairs}


def option_probabilities(generator: Generator, encoded: EncodedSample, options: Sequence[str]) -> list[float]:
    """The probability of each option as the whole answer: of its tokens and the end token after them."""
    batch = []
    for option in options:
        answer = dataclasses.replace(encoded.sample.answer, references=(option,))
        batch.append(dataclasses.replace(encoded, sample=dataclasses.replace(encoded.sample, answer=answer)))
    answers = [loglikelihoods(generator, [row])[0] for row in batch]
    return [torch.tensor(answer.log_likelihood).exp().item() for answer in answers]


@torch.inference_mode()
def first_tokens(generator: Generator, encoded: EncodedSample, number: int) -> list[tuple[str, float]]:
    """The most probable first tokens of the answer, as text, with their probabilities."""
    row = encoded.row
    inputs = forward_inputs(generator.lvlm, collate([row], pad_token_id=generator.pad_token_id, side="left"))
    probabilities = generator.lvlm(**inputs).logits[0, -1].float().softmax(-1)
    values, ids = probabilities.topk(min(number, len(probabilities)))
    texts = [str(generator.tokenizer.decode([token])) for token in ids.tolist()]
    return list(zip(texts, values.tolist(), strict=True))
