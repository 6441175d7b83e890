"""Answers do not depend on how questions are batched, survive a kill, and ask for no more memory than there is."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.composing import composed
from support.whole_runs import command
from transformers import DynamicCache, LlamaConfig, Phi3Config

from vrx.config.schema import RunConfig
from vrx.data import image_processing
from vrx.evaluation import benchmarks, evaluate_run, prediction_files, run_benchmarks
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import Generator, Respond, answer_texts, generate
from vrx.evaluation.kv_cache import roomy_cache
from vrx.evaluation.loglikelihood import likelihoods, perplexity_of, responder
from vrx.metrics.answer import Answer
from vrx.models import loading

Make = Callable[..., RunConfig]


def generator_of(run: RunConfig, dtype: torch.dtype = torch.float32) -> Generator:
    tokenizer = loading.tokenizer_of(run.model)
    lvlm = loading.load(run.model, dtype=dtype)
    return Generator(lvlm, tokenizer, run.model, image_token_id=loading.image_token_id(run.model, tokenizer))


@pytest.fixture(scope="module")
def tiny(world: Path) -> Generator:
    return generator_of(composed([f"runtime.output_root={world}"]))


def asked(run: RunConfig, name: str, *, limit: int | None = None) -> list[Sample]:
    return benchmarks.samples(name, run.benchmark[name], limit=limit)


def in_batches(generator: Generator, samples: list[Sample], respond: Respond, size: int) -> list[Answer]:
    rows = [(generator.encode(sample), sample) for sample in samples]
    found = []
    for first in range(0, len(rows), size):
        ids, batch = zip(*rows[first : first + size], strict=True)
        found += respond(list(batch), list(ids))
    return found


TINY = ["ocrvqa", "docvqa", "refcocog", "tdiuc", "mmbench", "gqa", "scienceqa", "textvqa", "mmlu"]


@pytest.mark.parametrize("name", TINY)
def test_answers_of_one_of_eight_and_of_64_questions_at_a_time_are_the_same(make_run: Make, tiny: Generator, name: str):
    run = make_run()
    config, samples = run.benchmark[f"tiny_{name}"], asked(run, f"tiny_{name}")
    one, eight, many = (in_batches(tiny, samples, responder(tiny, config), size) for size in (1, 8, 64))
    assert one == eight == many


def test_the_letters_are_weighed_as_the_likelihood_of_each_as_an_answer_says(make_run: Make, tiny: Generator):
    run = make_run("benchmark=mmlu_letters_tiny")
    samples = asked(run, "tiny_mmlu_letters")
    found = in_batches(tiny, samples, responder(tiny, run.benchmark["tiny_mmlu_letters"]), 4)
    texts = in_batches(tiny, samples, answer_texts(tiny, 8), 4)
    assert [answer.text for answer in found] == [answer.text for answer in texts]
    for sample, answer in zip(samples, found, strict=True):
        letters = [dataclasses.replace(sample, answer=Answer("x", "", (letter,))) for letter in "ABCD"]
        with_end = [row.log_likelihood or 0.0 for row in likelihoods(tiny, letters)]
        assert len(answer.choice_log_probs) == 4
        assert all(whole <= first + 1e-4 for whole, first in zip(with_end, answer.choice_log_probs, strict=True))
        assert max(range(4), key=with_end.__getitem__) == max(range(4), key=answer.choice_log_probs.__getitem__)


def written(make_run: Make, tiny: Generator, run_dir: Path, respond: Respond, *, batch_size: int) -> dict[str, Answer]:
    generate(tiny, "b", asked(make_run(), "tiny_gqa"), run_dir, respond=respond, batch_size=batch_size, key="key")
    return prediction_files.read_parts(run_dir, "b", "key")


def test_a_batch_that_memory_does_not_hold_is_halved(make_run: Make, tiny: Generator, tmp_path: Path, capsys):
    sizes = []

    def respond(samples: list[Sample], ids: list[list[int]]) -> list[Answer]:
        sizes.append(len(samples))
        if len(samples) > 2:
            raise torch.cuda.OutOfMemoryError
        return answer_texts(tiny, 4)(samples, ids)

    found = written(make_run, tiny, tmp_path, respond, batch_size=64)
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    assert found == written(make_run, tiny, tmp_path / "whole", answer_texts(tiny, 4), batch_size=64)
    assert "b: 6 questions at a time are more than the GPU's memory holds" in capsys.readouterr().err


def batch_sizes(tiny: Generator, tmp_path: Path, lengths: list[int], *, holds: int) -> list[int]:
    """How many prompts of so many words are asked at a time, eight at most, where memory holds so many tokens."""
    samples = [Sample("red " * length, None, Answer(str(n), "", ())) for n, length in enumerate(lengths)]
    sizes = []

    def respond(batch: list[Sample], ids: list[list[int]]) -> list[Answer]:
        if len(ids) * max(map(len, ids)) > holds:
            raise torch.cuda.OutOfMemoryError
        sizes.append(len(batch))
        return [sample.answer for sample in batch]

    generate(tiny, "b", samples, tmp_path, respond=respond, batch_size=8, key="key")
    assert set(prediction_files.read_parts(tmp_path, "b", "key")) == {sample.answer.id for sample in samples}
    return sizes


def test_short_prompts_are_asked_more_at_a_time_than_long_ones(tiny: Generator, tmp_path: Path, monkeypatch):
    lengths = [400] * 8 + [40] * 16
    assert batch_sizes(tiny, tmp_path / "halved", lengths, holds=2000) == [4, 4, 8, 8]
    monkeypatch.setattr("vrx.evaluation.generation.CPU_TOKENS", 1000)
    assert batch_sizes(tiny, tmp_path / "cpu", lengths, holds=1000) == [2, 2, 2, 2, 8, 8]


def test_memory_that_holds_no_question_is_one_line(make_run: Make, tiny: Generator, tmp_path: Path):
    def respond(samples: list[Sample], ids: list[list[int]]) -> list[Answer]:
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(ValueError, match=r"^benchmark\.b: the GPU's memory does not hold one question"):
        written(make_run, tiny, tmp_path, respond, batch_size=4)


def test_a_generation_that_was_cut_loses_the_batch_it_was_at(make_run: Make, tiny: Generator, tmp_path: Path):
    respond, seen = answer_texts(tiny, 4), []

    def cut(samples: list[Sample], ids: list[list[int]]) -> list[Answer]:
        if seen:
            raise KeyboardInterrupt
        seen.extend(sample.answer.id for sample in samples)
        return respond(samples, ids)

    with pytest.raises(KeyboardInterrupt):
        written(make_run, tiny, tmp_path, cut, batch_size=2)
    assert set(prediction_files.read_parts(tmp_path, "b", "key")) == set(seen)

    def rest(samples: list[Sample], ids: list[list[int]]) -> list[Answer]:
        assert not {sample.answer.id for sample in samples} & set(seen)
        return respond(samples, ids)

    found = written(make_run, tiny, tmp_path, rest, batch_size=2)
    assert found == written(make_run, tiny, tmp_path / "whole", respond, batch_size=2)


def test_room_for_answers_changes_neither_keys_nor_values():
    config = LlamaConfig(num_hidden_layers=2)
    ours, plain = roomy_cache(config), DynamicCache(config=config)
    for length in (5, 1, 70, 1, 200, 1):
        for layer in range(2):
            new = torch.randn(2, 3, length, 4), torch.randn(2, 3, length, 4)
            for mine, theirs in zip(ours.update(*new, layer), plain.update(*new, layer), strict=True):
                assert torch.equal(mine, theirs)
        assert ours.get_seq_length() == plain.get_seq_length()


def test_layers_with_a_window_keep_no_more_than_it(tiny: Generator):
    config = Phi3Config(num_hidden_layers=1, sliding_window=8)
    ours, plain = roomy_cache(config), DynamicCache(config=config)
    for length in (12, 1, 1):
        new = torch.randn(1, 2, length, 4), torch.randn(1, 2, length, 4)
        assert torch.equal(ours.update(*new, 0)[0], plain.update(*new, 0)[0])
    assert ours.layers[0].keys.shape == plain.layers[0].keys.shape == (1, 2, 7, 4)


def test_what_batches_change_in_bfloat16_stands_in_the_record(make_run: Make, tmp_path: Path):
    run = make_run("benchmark=[tiny_refcocog,perplexity_tiny]")
    run_benchmarks.ask_all(generator_of(run, torch.bfloat16), run, tmp_path)
    scores = evaluate_run.measure(run, tmp_path, evaluate_run.check_benchmarks(run))
    told = scores.pop("tiny_refcocog")["agreement_with_batch_1"]
    assert told["num_samples"] == 6
    assert 0 <= told["value"] <= 1
    assert all("agreement_with_batch_1" not in entry for entry in scores.values()), "likelihoods have no text"


def test_exact_answers_are_not_asked_again(make_run: Make, tiny: Generator, tmp_path: Path):
    run = make_run("benchmark=[tiny_gqa]")
    run_benchmarks.ask_all(tiny, run, tmp_path)
    assert prediction_files.read_header(tmp_path, "tiny_gqa").agreement is None
    assert (
        "agreement_with_batch_1"
        not in evaluate_run.measure(run, tmp_path, evaluate_run.check_benchmarks(run))["tiny_gqa"]
    )


def test_agreement_is_the_share_of_answers_that_do_not_change(make_run: Make, tiny: Generator, monkeypatch):
    samples, respond = asked(make_run(), "tiny_gqa"), answer_texts(tiny, 8)
    found = {answer.id: answer for answer in in_batches(tiny, samples, respond, 6)}
    assert run_benchmarks.agreement(tiny, samples, found, respond) == {"value": 1.0, "num_samples": 6}
    other = samples[2].answer.id
    found[other] = dataclasses.replace(found[other], text="something else")
    assert run_benchmarks.agreement(tiny, samples, found, respond) == {"value": 5 / 6, "num_samples": 6}
    monkeypatch.setattr(run_benchmarks, "ASKED_ALONE", 3)
    assert run_benchmarks.agreement(tiny, samples, found, respond) == {"value": 2 / 3, "num_samples": 3}


@pytest.mark.slow
def test_an_evaluation_killed_hard_loses_at_most_one_batch(tmp_path: Path):
    telling = ["job=evaluate", "benchmark=[tiny_refcocog]", "eval.batch_size=2", f"runtime.output_root={tmp_path}/o"]
    telling += ["world.num_questions=60"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command(*telling), cwd=tmp_path, env=environment, start_new_session=True)
    part, before = None, []
    deadline = time.monotonic() + 300
    while len(before) < 7 and time.monotonic() < deadline:
        time.sleep(0.05)
        part = next(tmp_path.glob("o/evaluate/tiny/*/answers/.tiny_refcocog.0.part"), None)
        before = part.read_bytes().splitlines() if part else []
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    time.sleep(1)  # the workers die with their parent
    assert part is not None
    left = [line for line in part.read_bytes().splitlines() if line.endswith(b"}")]
    assert 7 <= len(left) < 61
    assert len(left) >= len(before) - 1
    again = subprocess.run(command(*telling), cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    (path,) = tmp_path.glob("o/evaluate/tiny/*/answers/tiny_refcocog.jsonl")
    lines = path.read_bytes().splitlines()
    assert len(lines) == 61
    assert set(left) <= set(lines), "what was answered is kept as it was"
    assert "tiny_refcocog" in again.stdout


@pytest.mark.slow
def test_batches_are_at_least_eight_times_as_fast(world: Path, tiny: Generator, capsys):
    """Questions a second, both ways in one run; the ratio counts, not the machine. Also the agreement in bfloat16."""
    run = composed([f"runtime.output_root={world}/speed", "world.num_images=4", "world.num_questions=64"])
    assert run.world is not None
    from vrx.tiny.data import build

    build(run.world)
    half = generator_of(run, torch.bfloat16)
    samples = asked(run, "tiny_refcocog")
    respond, lower = (responder(one, run.benchmark["tiny_refcocog"]) for one in (tiny, half))
    seconds, found = {}, {}
    for size in (64, 1):
        in_batches(tiny, samples[:4], respond, size)
        begun = time.perf_counter()
        found[size] = in_batches(tiny, samples, respond, size)
        seconds[size] = time.perf_counter() - begun
    one, many = (in_batches(half, samples[:24], lower, size) for size in (1, 24))
    agreeing = sum(a.text == b.text for a, b in zip(one, many, strict=True))
    with capsys.disabled():
        print(f"\n64 questions at a time against 1: {seconds[1] / seconds[64]:.1f} times as many a second")
        print(f"bfloat16, 24 at a time against 1: {agreeing} of 24 answers the same")
    assert found[1] == found[64]
    assert seconds[1] >= 8 * seconds[64]
    assert agreeing >= 0.9 * 24


# ---- perplexity


def test_perplexity_is_that_of_the_references_tokens_one_by_one(make_run: Make, tiny: Generator):
    """Against the plain way: one sample at a time, the whole logits, the loss of transformers."""
    run = make_run("benchmark=perplexity_tiny")
    for name in run.benchmark:
        samples = asked(run, name)
        total, tokens, words, size = 0.0, 0, 0, 0
        for sample in samples:
            prompt, reply = tiny.encode(sample), f" {sample.answer.references[0]}<|end_of_text|>"
            ids = torch.tensor([prompt + tiny.tokenizer(reply, add_special_tokens=False)["input_ids"]])
            pixels = (
                {"pixel_values": tiny.pixels(image_processing.open_rgb(sample.image))[None]} if sample.image else {}
            )
            with torch.inference_mode():
                logits = tiny.lvlm(input_ids=ids, **pixels).logits.double().log_softmax(-1)
            for place in range(len(prompt), ids.shape[1]):
                total -= float(logits[0, place - 1, ids[0, place]])
                tokens += 1
            words += len(sample.answer.references[0].split())
            size += len(sample.answer.references[0].encode())
        found = perplexity_of(tiny, samples)
        mean = torch.tensor(total, dtype=torch.float64)
        assert found["token"] == pytest.approx(float((mean / tokens).exp()), rel=1e-4)
        assert found["word"] == pytest.approx(float((mean / words).exp()), rel=1e-4)
        assert found["byte"] == pytest.approx(float((mean / size).exp()), rel=1e-4)
        assert found["bits_per_byte"] == pytest.approx(float(mean / size / torch.tensor(2.0).log()), rel=1e-4)
        assert perplexity_of(tiny, samples, batch_size=1) == pytest.approx(found, rel=1e-4)
