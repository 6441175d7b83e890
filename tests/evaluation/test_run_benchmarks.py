"""Predictions of whole benchmarks: they survive a kill, fit into memory, and do not depend on loader processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.forked import run_forked
from support.generating import answer_in_batches, generator_of, samples_of
from support.processes import started
from support.whole_runs import command

from vrx.config.errors import BadImage, UserError
from vrx.config.schema import RunConfig
from vrx.evaluation import evaluate_run, prediction_files, run_benchmarks
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import AnswerFunction, EncodedSample, Generator, text_answer_function
from vrx.metrics.answer import Answer

Make = Callable[..., RunConfig]


def predict(
    make_run: Make, tiny: Generator, run_dir: Path, answer: AnswerFunction, *, batch_size: int, num_workers: int = 0
) -> dict[str, Answer]:
    """The predictions for `tiny_gqa` by sample id, as the part file in `run_dir` holds them."""
    samples = samples_of(make_run(), "tiny_gqa")
    options = {"batch_size": batch_size, "num_workers": num_workers, "key": "key"}
    run_benchmarks.predict(tiny, "b", samples, run_dir, answer=answer, **options)
    return prediction_files.read_parts(run_dir, "b", "key")


def test_a_batch_that_does_not_fit_into_memory_is_halved(make_run: Make, tiny: Generator, tmp_path: Path, capsys):
    sizes = []

    def answer(batch: list[EncodedSample]) -> list[Answer]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError
        return text_answer_function(tiny, 4)(batch)

    halved = predict(make_run, tiny, tmp_path, answer, batch_size=64)
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    assert halved == predict(make_run, tiny, tmp_path / "whole", text_answer_function(tiny, 4), batch_size=64)
    assert "b: 6 questions do not fit into the GPU's memory at once" in capsys.readouterr().err


def batch_sizes(tiny: Generator, tmp_path: Path, lengths: list[int], *, max_tokens: int) -> list[int]:
    """Sizes of the batches, of at most eight prompts of so many words, where memory holds `max_tokens`."""
    samples = [Sample("red " * length, None, Answer(str(n), "", ())) for n, length in enumerate(lengths)]
    sizes = []

    def answer(batch: list[EncodedSample]) -> list[Answer]:
        if len(batch) * max(len(encoded.prompt_ids) for encoded in batch) > max_tokens:
            raise torch.cuda.OutOfMemoryError
        sizes.append(len(batch))
        return [encoded.sample.answer for encoded in batch]

    run_benchmarks.predict(tiny, "b", samples, tmp_path, answer=answer, batch_size=8, key="key")
    assert set(prediction_files.read_parts(tmp_path, "b", "key")) == {sample.answer.id for sample in samples}
    return sizes


def test_batches_of_short_prompts_are_larger_than_those_of_long_ones(tiny: Generator, tmp_path: Path, monkeypatch):
    lengths = [400] * 8 + [40] * 16
    assert batch_sizes(tiny, tmp_path / "halved", lengths, max_tokens=2000) == [4, 4, 8, 8]
    monkeypatch.setattr(run_benchmarks, "CPU_TOKENS", 1000)
    assert batch_sizes(tiny, tmp_path / "cpu", lengths, max_tokens=1000) == [2, 2, 2, 2, 8, 8]


def test_memory_that_does_not_hold_one_question_is_reported_in_one_line(
    make_run: Make, tiny: Generator, tmp_path: Path
):
    def answer(batch: list[EncodedSample]) -> list[Answer]:
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(UserError, match=r"^benchmark\.b: one question does not fit into the GPU's memory"):
        predict(make_run, tiny, tmp_path, answer, batch_size=4)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_interrupted_benchmark_loses_only_its_current_batch(
    make_run: Make, tiny: Generator, tmp_path: Path, num_workers: int
):
    answer, answered = text_answer_function(tiny, 4), set()

    def interrupted(batch: list[EncodedSample]) -> list[Answer]:
        if answered:
            raise KeyboardInterrupt
        answered.update(encoded.sample.answer.id for encoded in batch)
        return answer(batch)

    with pytest.raises(KeyboardInterrupt):
        predict(make_run, tiny, tmp_path, interrupted, batch_size=2, num_workers=num_workers)
    assert set(prediction_files.read_parts(tmp_path, "b", "key")) == answered

    def resumed(batch: list[EncodedSample]) -> list[Answer]:
        assert not {encoded.sample.answer.id for encoded in batch} & answered
        return answer(batch)

    predictions = predict(make_run, tiny, tmp_path, resumed, batch_size=2, num_workers=num_workers)
    assert predictions == predict(make_run, tiny, tmp_path / "whole", answer, batch_size=2)


def test_prediction_files_do_not_depend_on_the_number_of_loader_processes(
    make_run: Make, tiny: Generator, tmp_path: Path
):
    names = ["tiny_gqa", "tiny_mmlu", "tiny_ocrvqa_perplexity"]
    benchmarks = "benchmark=[tiny_gqa,tiny_mmlu,perplexity_tiny]"
    for num_workers in (0, 2):
        run = make_run(benchmarks, f"runtime.num_workers={num_workers}", "eval.batch_size=4")
        run_benchmarks.run_benchmarks(tiny, run, tmp_path / str(num_workers))
    for name in names:
        in_process, in_workers = (tmp_path / str(number) / "answers" / f"{name}.jsonl" for number in (0, 2))
        assert in_process.read_bytes() == in_workers.read_bytes()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_answers_before_a_bad_image_are_written(make_run: Make, tiny: Generator, tmp_path: Path, num_workers: int):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = samples_of(make_run(), "tiny_gqa")
    last = sorted(good, key=lambda sample: (-len(tiny.prompt_ids(sample)), sample.answer.id))[-1]
    samples = [dataclasses.replace(sample, image=tmp_path / "bad.png") if sample == last else sample for sample in good]
    answer = text_answer_function(tiny, 4)
    options = {"answer": answer, "batch_size": 1, "key": "key", "num_workers": num_workers}
    with pytest.raises(BadImage, match=f"^sample {last.answer.id}: image "):
        run_benchmarks.predict(tiny, "b", samples, tmp_path, **options)
    assert last.answer.id not in (answered := prediction_files.read_parts(tmp_path, "b", "key"))
    run_benchmarks.predict(tiny, "b", good, tmp_path, **options)
    assert answered.items() <= prediction_files.read_parts(tmp_path, "b", "key").items()
    assert len(prediction_files.read_parts(tmp_path, "b", "key")) == len(good)


# ---- agreement with batches of one


def test_agreement_in_bfloat16_is_part_of_the_record(make_run: Make, tmp_path: Path):
    run = make_run("benchmark=[tiny_refcocog,perplexity_tiny]")
    run_benchmarks.run_benchmarks(generator_of(run, torch.bfloat16), run, tmp_path)
    scores = evaluate_run.measure(run, tmp_path, evaluate_run.check_benchmarks(run))
    agreement = scores.pop("tiny_refcocog").agreement_with_batch_1
    assert agreement is not None
    assert agreement["num_samples"] == 6
    assert 0 <= agreement["value"] <= 1
    assert all(entry.agreement_with_batch_1 is None for entry in scores.values()), "log-likelihoods have no text"


def test_exact_answers_are_not_generated_again(make_run: Make, tiny: Generator, tmp_path: Path):
    run = make_run("benchmark=[tiny_gqa]")
    run_benchmarks.run_benchmarks(tiny, run, tmp_path)
    assert prediction_files.read_header(tmp_path, "tiny_gqa").agreement is None
    scores = evaluate_run.measure(run, tmp_path, evaluate_run.check_benchmarks(run))
    assert scores["tiny_gqa"].agreement_with_batch_1 is None


def test_agreement_is_the_share_of_answers_that_do_not_change(make_run: Make, tiny: Generator, monkeypatch):
    samples, answer = samples_of(make_run(), "tiny_gqa"), text_answer_function(tiny, 8)
    predictions = {prediction.id: prediction for prediction in answer_in_batches(tiny, samples, answer, 6)}
    agreement = run_benchmarks.agreement_with_batch_1
    assert agreement(tiny, samples, predictions, answer) == {"value": 1.0, "num_samples": 6}
    other = samples[2].answer.id
    predictions[other] = dataclasses.replace(predictions[other], text="something else")
    assert agreement(tiny, samples, predictions, answer) == {"value": 5 / 6, "num_samples": 6}
    monkeypatch.setattr(run_benchmarks, "NUM_AGREEMENT_SAMPLES", 3)
    assert agreement(tiny, samples, predictions, answer) == {"value": 2 / 3, "num_samples": 3}


@pytest.mark.slow
def test_an_evaluation_killed_hard_loses_at_most_one_batch(tmp_path: Path):
    options = ["job=evaluate", "benchmark=[tiny_refcocog]", "eval.batch_size=2", f"runtime.output_root={tmp_path}/o"]
    options += ["world.num_questions=60"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    part, before = None, []
    with started(command(*options), cwd=tmp_path, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 300
        while len(before) < 7 and time.monotonic() < deadline:
            time.sleep(0.05)
            part = next(tmp_path.glob("o/evaluate/tiny/*/answers/.tiny_refcocog.0.part"), None)
            before = part.read_bytes().splitlines() if part else []
        os.killpg(process.pid, signal.SIGKILL)
    time.sleep(1)  # the workers die with their parent
    assert part is not None
    left = [line for line in part.read_bytes().splitlines() if line.endswith(b"}")]
    assert 7 <= len(left) < 61
    assert len(left) >= len(before) - 1
    again = run_forked(command(*options), tmp_path, environment)
    assert again.returncode == 0, again.stderr
    (path,) = tmp_path.glob("o/evaluate/tiny/*/answers/tiny_refcocog.jsonl")
    lines = path.read_bytes().splitlines()
    assert len(lines) == 61
    assert set(left[1:]) <= set(lines[1:]), "earlier answers stay as they were"
    assert "tiny_refcocog" in again.stdout
