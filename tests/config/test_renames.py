"""Renamed keys and values are refused with their new name."""

from __future__ import annotations

import pytest

from vrx.config.renames import KEYS, VALUES, rename_error


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("benchmark.gqa.also={a: anls}", "benchmark.gqa.also: renamed to benchmark.gqa.extra_metrics"),
        ("+benchmark.gqa.also.anls=anls", "benchmark.gqa.also: renamed to benchmark.gqa.extra_metrics"),
        ("benchmark.mmlu.ask=letters", "benchmark.mmlu.ask: renamed to benchmark.mmlu.output_type"),
        ("check.share_of_peak=0.5", "check.share_of_peak: renamed to check.expected_mfu"),
        ("score.untouched=true", "score.untouched: renamed to score.base_model"),
        ("engine.skip_tower=true", "engine.skip_tower: renamed to engine.skip_vision_tower"),
        ("benchmark.gqa.output_type=likelihood", "benchmark.gqa.output_type=likelihood: renamed to loglikelihood"),
        ("benchmark.gqa.output_type=text", None),
        ("benchmark=gqa", None),
        ("~benchmark.gqa", None),
        ("train.lr=1e-3", None),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(override: str, message: str | None):
    assert rename_error(override) == message


def test_no_new_name_is_an_old_one():
    assert not {*KEYS.values()} & KEYS.keys()
    assert {*VALUES} <= {*KEYS.values()}
