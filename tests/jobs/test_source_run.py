"""Which questions a job on a finished run asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.config_runs import composed, run_of

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.config.shuffled_images import SUFFIX
from vrx.jobs.source_run import find_source, run_of_command
from vrx.runs.files import digest
from vrx.runs.identity import base_identity
from vrx.runs.record import Record, model_facts
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig]:
    """The directory and the configuration of a run on two benchmarks of a world of its own."""
    folder = tmp_path_factory.mktemp("run")
    run = run_of("benchmark=[tiny_gqa,tiny_mmlu]", "world.num_questions=7")
    write_config(folder, run)
    assert RunDir(folder).config.is_file()
    return folder, run


def asked(folder: Path, *overrides: str) -> RunConfig:
    overrides = ("job=evaluate", f"job.run={folder}", *overrides)
    return run_of_command(composed(*overrides), overrides)


def test_without_names_the_questions_are_those_of_the_run(finished: tuple[Path, RunConfig]):
    folder, run = finished
    assert asked(folder).benchmark == run.benchmark
    assert asked(folder).world == run.world
    assert asked(folder, "eval.limit=3").eval.limit == 3


@pytest.mark.parametrize("typed", ["benchmark=tiny_ocrvqa", "model=tiny", "world.seed=1", "data_root=/data"])
def test_what_the_command_names_is_asked(typed: str, finished: tuple[Path, RunConfig]):
    folder, _ = finished
    assert asked(folder, typed) == run_of("job=evaluate", f"job.run={folder}", typed)


def test_they_are_asked_with_shuffled_images_where_the_command_says_so(finished: tuple[Path, RunConfig]):
    folder, run = finished
    names = asked(folder, "eval.shuffle_images=true").benchmark
    assert set(names) == {name + SUFFIX for name in run.benchmark}
    assert all(benchmark.shuffle_images for benchmark in names.values())


def test_a_folder_without_a_configuration_is_left_to_the_job(tmp_path: Path):
    assert asked(tmp_path) == run_of("job=evaluate", f"job.run={tmp_path}")


@pytest.mark.parametrize("job", ["evaluate", "revert", "prune", "score"])
@pytest.mark.parametrize("model", ["qwen3-vl-2b", "tiny"])
@pytest.mark.parametrize("named", [(), ("model=internvl3-2b",)])
def test_questions_are_put_in_the_form_of_the_runs_model(tmp_path: Path, job: str, model: str, named: tuple[str, ...]):
    own = run_of(f"model={model}", "benchmark=[refcocog]")
    write_config(tmp_path, own)
    overrides = (f"job={job}", f"job.run={tmp_path}", "benchmark=[refcocog]", *named)
    assert run_of_command(composed(*overrides), overrides).benchmark == own.benchmark


def test_controls_with_shuffled_images_are_put_in_the_form_of_the_runs_model(tmp_path: Path):
    own = run_of("job=evaluate", "model=qwen3-vl-2b", "benchmark=[refcocog]", "eval.shuffle_images=true")
    write_config(tmp_path, own)
    assert asked(tmp_path, "benchmark=[refcocog]", "eval.shuffle_images=true").benchmark == own.benchmark


@pytest.mark.parametrize(
    ("job", "advice"), [("score", "; .* scored by score.base_model=true"), ("revert", ""), ("prune", "")]
)
def test_the_evaluation_of_a_model_before_tuning_is_no_source(job: str, advice: str, tmp_path: Path):
    run = run_of(f"job={job}", f"job.run={tmp_path}")
    identity = base_identity(run)
    write_config(tmp_path, run)
    Record(digest(identity)[:8], identity, model_facts(run.model), [], {}).write(RunDir(tmp_path).record)
    message = rf"^job\.run={tmp_path}: a model before tuning; valid is a run that tuned layers{advice}$"
    with pytest.raises(UserError, match=message):
        find_source(run)
