"""Perplexity: every token is predicted once, in the context lm-eval gives it; units are counted over all texts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.composing import composed

from vrx.config.schema import BenchmarkConfig
from vrx.data.encoding import IGNORE
from vrx.evaluation import benchmarks, families, scoring
from vrx.evaluation.generation import Generator
from vrx.evaluation.loglikelihood import likelihoods, perplexity_of, rolling
from vrx.metrics import aggregate, per_answer
from vrx.metrics.answer import Answer
from vrx.models import loading

LIKELIHOOD = {
    "metric": "token_likelihood",
    "aggregate": "perplexity",
    "output_type": "loglikelihood",
}


@given(st.lists(st.integers(1, 99), max_size=60), st.integers(1, 20))
def test_every_token_of_a_text_is_labelled_once_and_in_order(ids: list[int], length: int):
    windows = list(rolling(ids, begin=0, length=length))
    assert [label for _, labels in windows for label in labels if label != IGNORE] == ids
    for window, labels in windows:
        assert len(window) == len(labels) <= length + 1
        assert labels[0] == IGNORE
        assert all(label in (IGNORE, token) for token, label in zip(window, labels, strict=True))


@given(st.lists(st.integers(1, 99), min_size=1, max_size=60), st.integers(1, 20))
def test_windows_follow_each_other_and_the_last_reaches_back_as_far_as_it_can(ids: list[int], length: int):
    windows = list(rolling(ids, begin=0, length=length))
    assert all(sum(label != IGNORE for label in labels) == length for _, labels in windows[:-1])
    assert all(sum(label == IGNORE for label in labels) == 1 for _, labels in windows[:-1])
    assert windows[-1][0] == [0, *ids][-length - 1 :]


def test_perplexity_has_the_units_of_all_answers_together():
    answers = [
        Answer("a", "", (), log_likelihood=-6.0, num_tokens=2, num_words=1, num_bytes=8),
        Answer("b", "", (), log_likelihood=-2.0, num_tokens=6, num_words=3, num_bytes=8),
    ]
    found = aggregate.perplexity(answers)
    assert found == pytest.approx(
        {"token": math.e, "word": math.exp(2), "byte": math.exp(0.5), "bits_per_byte": 0.5 / math.log(2)}
    )
    assert aggregate.perplexity(answers[::-1]) == found
    entry = scoring.score_benchmark(BenchmarkConfig(family="document", **LIKELIHOOD), answers)
    assert entry["perplexity"] == found
    assert entry["value"] == pytest.approx((math.exp(-3) + math.exp(-1 / 3)) / 2), "a share, as every score is"


def test_answers_without_a_likelihood_have_no_perplexity():
    for metric in (lambda answer: aggregate.perplexity([answer]), per_answer.token_likelihood):
        with pytest.raises(ValueError, match="answer 'q' has no log_likelihood; set output_type: loglikelihood"):
            metric(Answer("q", "red", ("red",)))
    with pytest.raises(ValueError, match="no text"):
        aggregate.perplexity([])


def test_an_improbable_text_has_a_finite_perplexity():
    found = aggregate.perplexity([Answer("a", "", (), log_likelihood=-1e6, num_tokens=1, num_words=1, num_bytes=1)])
    assert json.loads(json.dumps(found)) == found
    assert found["token"] > 1e300


@pytest.fixture(scope="module")
def tiny(world: Path) -> Generator:
    run = composed([f"runtime.output_root={world}"])
    tokenizer = loading.tokenizer_of(run.model)
    image_token_id = loading.image_token_id(run.model, tokenizer)
    return Generator(loading.load(run.model), tokenizer, run.model, image_token_id=image_token_id)


def documents(tmp_path: Path, *texts: str) -> list[families.Sample]:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)))
    config = BenchmarkConfig(family="document", path=str(path), **LIKELIHOOD)
    return benchmarks.samples("texts", config, limit=None)


def test_a_document_longer_than_the_window_is_counted_whole(tmp_path: Path, tiny: Generator):
    text = "What is at a1? red circle " * 300
    (answer,) = likelihoods(tiny, documents(tmp_path, text))
    assert answer.num_tokens == len(tiny.tokenizer(text, add_special_tokens=False)["input_ids"]) > 2048
    assert (answer.num_words, answer.num_bytes) == (len(text.split()), len(text.encode()))


def test_documents_do_not_change_each_other(tmp_path: Path, tiny: Generator):
    texts = ["What is at a1?", "Read row 2. " * 30, "é"]
    together = likelihoods(tiny, documents(tmp_path, *texts))
    alone = [likelihoods(tiny, documents(tmp_path, text))[0] for text in texts]
    assert [a.num_tokens for a in together] == [a.num_tokens for a in alone]
    assert [a.log_likelihood for a in together] == pytest.approx([a.log_likelihood for a in alone], rel=1e-4)
    assert perplexity_of(tiny, documents(tmp_path, *texts))["byte"] > 1


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_document_is_refused(tmp_path: Path, text: str):
    with pytest.raises(ValueError, match="line 1: text is empty"):
        documents(tmp_path, text)
