"""Calibration samples: which benchmarks they come from and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vrx.config.schema import RunConfig
from vrx.evaluation import calibration

MakeRun = Callable[..., RunConfig]


def test_samples_are_the_papers_four_benchmarks_drawn_at_random(make_run: MakeRun):
    few, many = (make_run("job=score", f"score.samples_per_benchmark={number}") for number in (2, 4))
    names = ["tiny_ocrvqa", "tiny_docvqa", "tiny_refcocog", "tiny_tdiuc"]
    drawn = calibration.draw_samples(many)
    assert [name for name, _ in drawn] == [name for name in names for _ in range(4)]
    assert drawn == calibration.draw_samples(make_run("job=score", "seed=1", "score.samples_per_benchmark=4"))
    ids_of_few = {(name, sample.answer.id) for name, sample in calibration.draw_samples(few)}
    assert ids_of_few < {(name, sample.answer.id) for name, sample in drawn}
    assert calibration.describe(drawn)["num_samples"] == 16
    assert calibration.describe(drawn)["digest"] != calibration.describe(calibration.draw_samples(few))["digest"]


def test_named_benchmarks_replace_the_papers_and_must_have_images(make_run: MakeRun):
    run = make_run("job=score", "score.benchmarks=[tiny_gqa]")
    assert {name for name, _ in calibration.draw_samples(run)} == {"tiny_gqa"}
    assert calibration.benchmark_names(make_run("job=score", "benchmark=[tiny_gqa]")) == ["tiny_gqa"]
    with pytest.raises(ValueError, match=r"score.benchmarks=\[tiny_mmlu\]: its questions have no images"):
        calibration.draw_samples(make_run("job=score", "score.benchmarks=[tiny_mmlu]"))
    with pytest.raises(ValueError, match=r"score.benchmarks=\['gqa'\]: valid are the run's benchmarks, tiny_ocrvqa"):
        calibration.draw_samples(make_run("job=score", "score.benchmarks=[gqa]"))
