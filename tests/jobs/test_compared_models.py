"""What the LVLMs that are shown side by side are called."""

from __future__ import annotations

import dataclasses

from support.config_runs import run_of

from vrx.config.schema import RunConfig
from vrx.jobs.compared_models import compared_models
from vrx.runs.record import ModelFacts, Record


def finished(run: RunConfig, run_id: str, layers: list[int]) -> tuple[RunConfig, Record]:
    return run, Record(run_id, {}, ModelFacts(run.model.name, 32), layers, {})


def names(*models: tuple[RunConfig, Record], untouched: bool = True) -> list[str]:
    return [each.name for each in compared_models(run_of("job=compare"), models, untouched=untouched)]


def test_runs_of_one_model_are_called_by_their_layers():
    tiny = run_of("job=compare")
    runs = (finished(tiny, "1a", [0, 1]), finished(tiny, "2b", [5]))
    assert names(*runs) == ["tiny, untouched", "1a: tuned 0, 1", "2b: tuned 5"]
    assert names(*runs, untouched=False) == ["1a: tuned 0, 1", "2b: tuned 5"]


def test_runs_of_several_models_are_called_by_their_model_too():
    tiny = run_of("job=compare")
    other = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, name="other"))
    runs = (finished(tiny, "1a", [0, 1]), finished(other, "2b", []))
    assert names(*runs) == [
        "tiny, untouched",
        "other, untouched",
        "tiny, 1a: tuned 0, 1",
        "other, 2b: untouched",
    ]


def test_without_a_run_there_is_the_untouched_model_of_the_command():
    assert names() == ["tiny, untouched"]
