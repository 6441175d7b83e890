"""Log-likelihoods: every token is predicted once, in the context lm-eval gives it; units are counted over all texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.generating import answer_in_batches, samples_of

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig, RunConfig
from vrx.data.instructions.encoding import IGNORE
from vrx.evaluation import benchmarks, scoring
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import Generator
from vrx.evaluation.loglikelihood import loglikelihoods, rolling_windows
from vrx.metrics import aggregate, per_answer
from vrx.metrics.answer import Answer

PERPLEXITY = {"metric": "token_likelihood", "aggregate": "perplexity", "output_type": "loglikelihood"}


@given(st.lists(st.integers(1, 99), max_size=60), st.integers(1, 20))
def test_every_token_of_a_text_is_labelled_once_and_in_order(ids: list[int], length: int):
    windows = list(rolling_windows(ids, begin=0, length=length))
    assert [label for _, labels in windows for label in labels if label != IGNORE] == ids
    for window, labels in windows:
        assert len(window) == len(labels) <= length + 1
        assert labels[0] == IGNORE
        assert all(label in (IGNORE, token) for token, label in zip(window, labels, strict=True))


@given(st.lists(st.integers(1, 99), min_size=1, max_size=60), st.integers(1, 20))
def test_windows_are_consecutive_and_the_last_has_the_longest_context(ids: list[int], length: int):
    windows = list(rolling_windows(ids, begin=0, length=length))
    assert all(sum(label != IGNORE for label in labels) == length for _, labels in windows[:-1])
    assert all(sum(label == IGNORE for label in labels) == 1 for _, labels in windows[:-1])
    assert windows[-1][0] == [0, *ids][-length - 1 :]


def test_perplexity_is_over_the_units_of_all_answers_together():
    answers = [
        Answer("a", "", (), log_likelihood=-6.0, num_tokens=2, num_words=1, num_bytes=8),
        Answer("b", "", (), log_likelihood=-2.0, num_tokens=6, num_words=3, num_bytes=8),
    ]
    perplexity = aggregate.perplexity(answers)
    assert perplexity == pytest.approx(
        {"token": math.e, "word": math.exp(2), "byte": math.exp(0.5), "bits_per_byte": 0.5 / math.log(2)}
    )
    assert aggregate.perplexity(answers[::-1]) == perplexity
    entry = scoring.score_benchmark(BenchmarkConfig(family="document", **PERPLEXITY), answers)
    assert entry["perplexity"] == perplexity
    assert entry["value"] == pytest.approx((math.exp(-3) + math.exp(-1 / 3)) / 2), "a fraction, as every score is"


def test_answers_without_a_log_likelihood_have_no_perplexity():
    for metric in (lambda answer: aggregate.perplexity([answer]), per_answer.token_likelihood):
        with pytest.raises(UserError, match="answer 'q' has no log_likelihood; set output_type: loglikelihood"):
            metric(Answer("q", "red", ("red",)))
    with pytest.raises(UserError, match="no text"):
        aggregate.perplexity([])


def test_an_improbable_text_has_a_finite_perplexity():
    answer = Answer("a", "", (), log_likelihood=-1e6, num_tokens=1, num_words=1, num_bytes=1)
    perplexity = aggregate.perplexity([answer])
    assert json.loads(json.dumps(perplexity)) == perplexity
    assert perplexity["token"] > 1e300


def perplexity_of(generator: Generator, samples: list[Sample], *, batch_size: int) -> dict[str, float]:
    answers = answer_in_batches(generator, samples, lambda batch: loglikelihoods(generator, batch), batch_size)
    return aggregate.perplexity(answers)


def test_perplexity_of_references_equals_that_of_their_tokens_one_by_one(
    make_run: Callable[..., RunConfig], tiny: Generator
):
    """Against the plain way: one sample at a time, the full logits, the loss of transformers."""
    run = make_run("benchmark=perplexity_tiny")
    for name in run.benchmark:
        samples = samples_of(run, name)
        total, num_tokens, num_words, num_bytes = 0.0, 0, 0, 0
        for sample in samples:
            prompt, reply = tiny.prompt_ids(sample), f" {sample.answer.references[0]}<|end_of_text|>"
            ids = torch.tensor([prompt + tiny.tokenizer(reply, add_special_tokens=False)["input_ids"]])
            pixels = tiny.encode(sample).pixels
            inputs = {} if pixels is None else {"pixel_values": pixels[None]}
            with torch.inference_mode():
                log_probs = tiny.lvlm(input_ids=ids, **inputs).logits.double().log_softmax(-1)
            for position in range(len(prompt), ids.shape[1]):
                total -= float(log_probs[0, position - 1, ids[0, position]])
                num_tokens += 1
            num_words += len(sample.answer.references[0].split())
            num_bytes += len(sample.answer.references[0].encode())
        perplexity = perplexity_of(tiny, samples, batch_size=16)
        assert perplexity["token"] == pytest.approx(math.exp(total / num_tokens), rel=1e-4)
        assert perplexity["word"] == pytest.approx(math.exp(total / num_words), rel=1e-4)
        assert perplexity["byte"] == pytest.approx(math.exp(total / num_bytes), rel=1e-4)
        assert perplexity["bits_per_byte"] == pytest.approx(total / num_bytes / math.log(2), rel=1e-4)
        assert perplexity_of(tiny, samples, batch_size=1) == pytest.approx(perplexity, rel=1e-4)


# ---- documents


def documents(tmp_path: Path, *texts: str) -> list[Sample]:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)))
    config = BenchmarkConfig(family="document", path=str(path), **PERPLEXITY)
    return benchmarks.samples("texts", config, limit=None)


def scored(generator: Generator, samples: list[Sample]) -> list[Answer]:
    return loglikelihoods(generator, [generator.encode(sample) for sample in samples])


def test_a_document_longer_than_the_context_is_scored_completely(tmp_path: Path, tiny: Generator):
    text = "What is at a1? red circle " * 300
    (answer,) = scored(tiny, documents(tmp_path, text))
    assert answer.num_tokens == len(tiny.tokenizer(text, add_special_tokens=False)["input_ids"]) > 2048
    assert (answer.num_words, answer.num_bytes) == (len(text.split()), len(text.encode()))


def test_documents_of_a_batch_do_not_affect_each_other(tmp_path: Path, tiny: Generator):
    texts = ["What is at a1?", "Read row 2. " * 30, "é"]
    together = scored(tiny, documents(tmp_path, *texts))
    alone = [scored(tiny, documents(tmp_path, text))[0] for text in texts]
    assert [a.num_tokens for a in together] == [a.num_tokens for a in alone]
    assert [a.log_likelihood for a in together] == pytest.approx([a.log_likelihood for a in alone], rel=1e-4)
    assert aggregate.perplexity(together)["byte"] > 1


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_document_is_refused(tmp_path: Path, text: str):
    with pytest.raises(UserError, match="line 1: text is empty"):
        documents(tmp_path, text)
