"""What the LVLMs that are shown side by side are called."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from support.config_runs import run_of

from vrx.config.schema import RunConfig
from vrx.jobs.compared_models import compared_models
from vrx.runs.files import write_atomic
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


def with_projector(run: RunConfig, folder: Path, content: str) -> RunConfig:
    """The run with a projector of this content in the folder."""
    write_atomic(folder / "config.json", content.encode())
    return dataclasses.replace(run, model=dataclasses.replace(run.model, projector=str(folder)))


def test_base_models_of_one_name_are_shown_each_and_told_apart(tmp_path: Path):
    tiny = run_of("job=compare")
    first = with_projector(tiny, tmp_path / "first", "1")
    second = with_projector(tiny, tmp_path / "second", "2")
    moved = with_projector(tiny, tmp_path / "copy", "1")
    runs = (finished(first, "1a", [0]), finished(second, "2b", [0]), finished(moved, "3c", [1]))
    assert names(*runs)[:3] == [
        "tiny, untouched (projector=first)",
        "tiny, untouched (projector=second)",
        "1a: tuned 0",
    ]


def test_base_models_of_one_folder_name_are_told_apart_by_their_path(tmp_path: Path):
    tiny = run_of("job=compare")
    models = [with_projector(tiny, tmp_path / name / "projector", name) for name in ("a", "b")]
    assert names(*(finished(model, model.model.projector or "", [0]) for model in models))[:2] == [
        f"tiny, untouched (projector={tmp_path / 'a' / 'projector'})",
        f"tiny, untouched (projector={tmp_path / 'b' / 'projector'})",
    ]


def test_without_a_run_there_is_the_untouched_model_of_the_command():
    assert names() == ["tiny, untouched"]
