"""Answers become a benchmark's entry in the record."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.official_files import OFFICIAL

from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.scoring import score_benchmark
from vrx.metrics import aggregate, per_answer
from vrx.metrics.answer import Answer


def config_of(metric: str, **options: Any) -> BenchmarkConfig:
    return BenchmarkConfig(family="short_answer", metric=metric, **options)


def answered(*texts: str, **options: Any) -> list[Answer]:
    return [Answer(str(number), text, ("red",), **options) for number, text in enumerate(texts)]


def test_an_entry_has_the_mean_its_standard_error_and_the_number_of_questions():
    entry = score_benchmark(config_of("exact_match"), answered("red", "red", "blue", "red"))
    error = pytest.approx((0.75 * 0.25 / 3) ** 0.5)
    assert entry == {"value": 0.75, "num_samples": 4, "stderr": error, "metrics": {}, "metrics_stderr": {}}


def test_extra_metrics_are_reported_with_the_main_one():
    extra = {"exact_match": "exact_match", "anls": "anls"}
    entry = score_benchmark(config_of("containment", extra_metrics=extra), answered("red", "dark red"))
    assert entry["value"] == 1.0
    assert entry["metrics"] == {"exact_match": 0.5, "anls": 0.5}
    assert entry["metrics_stderr"] == {"exact_match": 0.5, "anls": 0.5}


@settings(deadline=None)
@given(texts=st.lists(st.sampled_from(["red", "RED", "dark red", "", "blue"]), min_size=1))
def test_the_main_score_is_the_mean_of_its_metric(texts: list[str]):
    answers = answered(*texts)
    for metric in ("exact_match", "containment", "anls"):
        entry = score_benchmark(config_of(metric), answers)
        assert entry["value"] == aggregate.mean(getattr(per_answer, metric)(answer) for answer in answers)
        assert entry["stderr"] >= 0
        assert entry["num_samples"] == len(texts)


def rotations(group: str, *texts: str) -> list[Answer]:
    return [Answer(f"{group}{number}", text, ("A",), ("red", "blue"), group=group) for number, text in enumerate(texts)]


def test_rotations_count_as_one_question_which_is_right_if_all_of_them_are():
    config = config_of(
        "mmbench_letter",
        aggregate="circular",
        extra_metrics={"first": "mmlu_first_letter"},
    )
    entry = score_benchmark(config, [*rotations("x", "A", "A"), *rotations("y", "A", "B"), *rotations("z", "A", "A")])
    assert entry["num_samples"] == 3
    assert entry["value"] == pytest.approx(2 / 3)
    assert entry["metrics"] == {
        "score_all_rotations": pytest.approx(5 / 6),
        "score_first_rotation": 1.0,
        "first": pytest.approx(2 / 3),
        "first_all_rotations": pytest.approx(5 / 6),
        "first_first_rotation": 1.0,
    }


def test_a_record_entry_is_plain_json():
    entry = score_benchmark(config_of("exact_match"), answered("red"))
    assert json.loads(json.dumps(entry)) == entry


def test_a_benchmark_without_answers_is_refused():
    with pytest.raises(ValueError, match="no answers"):
        score_benchmark(config_of("exact_match"), [])


def test_scoring_looks_at_nothing_but_the_answers():
    config = config_of("exact_match")
    assert score_benchmark(
        dataclasses.replace(config, path="elsewhere", prompt="?"), answered("red")
    ) == score_benchmark(config, answered("red"))


def test_tdiuc_reports_means_per_type_with_the_plain_mean(ask):
    config = ask("tdiuc", {})
    answers = [
        Answer(str(n), text, ("red",), question_type=kind)
        for n, (text, kind) in enumerate(
            [("red", "color"), ("Red", "color"), ("blue", "sport"), ("red", "sport"), ("blue", "sport")]
        )
    ]
    entry = score_benchmark(config, answers)
    assert entry["value"] == 3 / 5
    assert entry["metrics"]["score_normalized_mean_per_type"] == pytest.approx((1 + 1 / 3) / 2)
    assert entry["metrics"]["score_mean_per_type"] == pytest.approx((1 + 1 / 3) / 2)
    assert entry["metrics"]["score_harmonic_mean_per_type"] == pytest.approx(2 / (1 + 3))
    assert entry["metrics"]["official"] == 2 / 5


def test_an_empty_answer_that_containment_counts_right_is_flagged(ask):
    config = ask("ocrvqa", {})
    entry = score_benchmark(config, [Answer("a", "", ("red",)), Answer("b", "red", ("red",))])
    assert (entry["value"], entry["metrics"]["exact_match"]) == (1.0, 0.5)
    assert entry["empty_answers_counted_right"] == {"score": 1}
    assert "empty_answers_counted_right" not in score_benchmark(config, [Answer("b", "red", ("red",))])
    beside = score_benchmark(ask("docvqa", {}), [Answer("a", " ", ("red",))])
    assert (beside["value"], beside["empty_answers_counted_right"]) == (0, {"containment": 1})


@pytest.mark.parametrize("text", ["", "[0.1, 0.2, 0.3]", "[0.9, 0.9, 0.1, 0.1]", "赤い犬", "[a, b, c, d]", "]" * 99])
def test_an_odd_answer_has_a_defined_score_in_every_benchmark(configs, text: str):
    for name, config in ((name, configs[name]) for name in OFFICIAL if configs[name].output_type != "loglikelihood"):
        frame = {"box": (6.4, 4.8, 32.0, 24.0), "image_size": (64, 48)} if name == "refcocog" else {}
        gold = "B" if config.family == "multiple_choice" else "crimson"
        answer = Answer("a", text, (gold,), ("x", "y"), "kind", choice_log_probs=(-1.0, -2.0), **frame)
        assert score_benchmark(config, [answer])["value"] == float(name == "ocrvqa" and not text)
