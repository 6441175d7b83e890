"""One decision on how far a run is, with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from vrx.config.errors import UserError
from vrx.runs.locks import exclusive_lock
from vrx.runs.status import Gap, RunStatus, combined_status, require_record, run_status, training_gap


def test_the_first_gap_is_the_reason(tmp_path: Path):
    status = run_status(tmp_path, [lambda: None, lambda: Gap("no record"), lambda: Gap("never reached")])
    assert (status.reason, status.run_dir) == ("no record", tmp_path)


@pytest.mark.parametrize(
    ("gaps", "state"),
    [
        ([None, None], "done"),
        ([Gap("no adapter"), None], "to do"),
        ([Gap("checkpoint at step 4", is_started=True), None], "resumable"),
        ([None, Gap("no answers: gqa")], "resumable"),
    ],
)
def test_a_run_is_resumable_once_any_of_its_work_exists(tmp_path: Path, gaps: list[Gap | None], state: str):
    assert run_status(tmp_path, [lambda gap=gap: gap for gap in gaps]).state == state


def test_a_check_behind_the_first_gap_is_not_made(tmp_path: Path):
    def fail() -> Gap | None:
        raise AssertionError("expensive")

    assert run_status(tmp_path, [lambda: Gap("not started"), fail]).state == "to do"


def test_what_a_training_lacks_is_read_from_its_directory(tmp_path: Path):
    assert training_gap(tmp_path / "run") == Gap("not started")
    (tmp_path / "run").mkdir()  # its lock is there before its training
    assert training_gap(tmp_path / "run") == Gap("not started")
    (tmp_path / "run" / "config.yaml").touch()
    assert training_gap(tmp_path / "run") == Gap("no adapter")
    for name in ("step-500", "step-1000", "step-old"):
        (tmp_path / "run" / "checkpoint" / name).mkdir(parents=True)
    assert training_gap(tmp_path / "run") == Gap("checkpoint at step 1000", is_started=True)
    (tmp_path / "run" / "train.json").write_text("{}")
    assert training_gap(tmp_path / "run") == Gap("no adapter")
    (tmp_path / "run" / "adapter").mkdir()
    assert training_gap(tmp_path / "run") is None


def test_several_runs_of_one_command_have_the_reason_of_the_first_unfinished():
    done, begun = RunStatus("done", "done"), RunStatus("resumable", "no record")
    todo = RunStatus("to do", "no answers: gqa")
    assert combined_status([done, done]).is_done
    assert combined_status([done, todo, begun]) == RunStatus("resumable", "no answers: gqa")
    assert combined_status([todo, todo]).state == "to do"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no record.json; valid is the directory of a finished run"),
        (["config.yaml"], "not finished, it has no result yet; run the command again that began it"),
        (["config.yaml", "train.json"], "not finished, it is trained, but not scored; run the command again"),
    ],
)
def test_a_run_without_a_record_is_refused_with_what_it_lacks(tmp_path: Path, files: list[str], message: str):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(UserError) as error:
        require_record(tmp_path, key="compare.runs")
    assert str(error.value).startswith(f"compare.runs={tmp_path}: {message}")
    (tmp_path / "record.json").touch()
    require_record(tmp_path)


def test_a_run_that_another_command_works_on_and_a_folder_that_is_none_are_named(tmp_path: Path):
    run = tmp_path / "tiny" / "run"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    with exclusive_lock(run), pytest.raises(UserError, match=r"run: not finished, another vrx works on this run; wait"):
        require_record(run)
    with pytest.raises(
        UserError, match=r"^job\.run=.*/nope: no such folder; valid is the directory of a finished run$"
    ):
        require_record(tmp_path / "nope")
    (run / "record.json").touch()
    for folder in (tmp_path, tmp_path / "tiny", tmp_path / "tiny" / "nope"):
        with pytest.raises(UserError, match=rf"such as {run}$"):
            require_record(folder)
