"""Copies of finished runs without weights: small, anonymous, found again, and never written to."""

from __future__ import annotations

import lzma
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.schema import RunConfig
from vrx.jobs.evaluate.driver import evaluate
from vrx.jobs.evaluate.driver import progress as evaluation_progress
from vrx.jobs.finetune.driver import finetune, progress
from vrx.jobs.report.driver import report
from vrx.jobs.revert.driver import revert
from vrx.report.collect import find_runs
from vrx.report.question_scores import question_scores
from vrx.report.results_copy import copy_results, without_paths
from vrx.runs.record import read_record

Make = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def roots(world: Path, tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The output root of a finished run and an evaluated model, and the copies of both without weights."""
    from support.composing import composed
    from support.whole_runs import SMALL

    made = tmp_path_factory.mktemp("made by someone")
    run_dir = shutil.copytree(tuned, made / "finetune" / tuned.parent.name / tuned.name)
    (run_dir / "train.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
    options = [*SMALL, f"runtime.output_root={made}", f"world.folder={world}/data/tiny", "job=evaluate", "eval.limit=4"]
    options += ["benchmark=[tiny_gqa,tiny_mmbench]", "wandb.mode=disabled"]
    evaluate(composed([*options, f"job.run={run_dir}"]))
    evaluate(composed(options))
    copies = tmp_path_factory.mktemp("docs") / "results"
    assert copy_results(made, copies) == 2
    return made, copies


@pytest.fixture
def continued(make_run: Make, world: Path, roots: tuple[Path, Path], tmp_path: Path) -> Make:
    """Compose a run of another output root, beside which the copies lie."""
    options = (f"runtime.output_root={tmp_path}", f"world.folder={world}/data/tiny", "wandb.mode=disabled")
    options += (f"runtime.results=[{roots[1]}]", "eval.limit=4", "benchmark=[tiny_gqa,tiny_mmbench]")
    return lambda *overrides: make_run(*options, *overrides)


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_copy_has_no_weights_and_nothing_of_the_machine(roots: tuple[Path, Path]):
    made, copies = roots
    files = [path for path in copies.rglob("*") if path.is_file()]
    assert {path.name for path in files if "finetune" in path.parts} == {
        *("config.yaml", "record.json", "copied.json", "train.jsonl.xz"),
        *("tiny_gqa.jsonl.xz", "tiny_mmbench.jsonl.xz"),
    }
    for path in files:
        content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        assert not [text for text in (str(made), str(Path.home()), socket.gethostname()) if text.encode() in content]
    config = load_frozen(next(copies.glob("finetune/*/*/config.yaml")))
    assert config.runtime.output_root == "outputs"


def test_the_same_runs_give_the_same_bytes_and_rewrite_nothing(roots: tuple[Path, Path], tmp_path: Path):
    made, copies = roots
    copy_results(made, tmp_path)
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert again == {path.relative_to(copies): path.read_bytes() for path in copies.rglob("*") if path.is_file()}
    before = state(copies)
    copy_results(made, copies)
    assert state(copies) == before


def test_paths_below_the_root_are_relative_and_others_keep_their_name():
    value = {"a": ["/r/data/x.json", "scores of /home/me/s/scores.json, and more"], "b": "and/or", "c": 1}
    assert without_paths(value, Path("/r")) == {
        "a": ["outputs/data/x.json", "scores of scores.json, and more"],
        "b": "and/or",
        "c": 1,
    }


def test_what_would_name_the_machine_is_refused(tmp_path: Path, roots: tuple[Path, Path]):
    made = shutil.copytree(roots[0], tmp_path / "made")
    path = next(made.glob("finetune/*/*/record.json"))
    record = read_record(path)
    record.extra["note"] = f"made on {socket.gethostname()}"
    record.write(path)
    with pytest.raises(UserError, match=r"record.json would hold"):
        copy_results(made, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_a_copied_run_counts_as_done_and_is_only_read(
    continued: Make, roots: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = state(roots[1])
    tuning, untouched = continued(), continued("job=evaluate")
    assert (progress(tuning).reason, evaluation_progress(untouched).reason) == ("done", "done")
    finetune(tuning)
    evaluate(untouched)
    assert capsys.readouterr().out.count("tiny_gqa") == 2
    assert not list(tmp_path.glob("*/*/*/record.json"))
    assert state(roots[1]) == before


def test_what_a_copy_lacks_is_made_in_the_output_root(continued: Make, tmp_path: Path):
    status = progress(continued("benchmark=[tiny_gqa,tiny_mmlu]"))
    assert (status.state, status.reason) == ("to do", "not started")
    assert status.run_dir is not None and status.run_dir.is_relative_to(tmp_path)
    assert progress(continued("seed=7")).reason == "not started"


def test_what_needs_the_weights_of_a_copy_names_the_command_that_makes_them(
    continued: Make, roots: tuple[Path, Path], tmp_path: Path
):
    before, copy = state(roots[1]), next(roots[1].glob("finetune/*/*"))
    line = (
        r"is a copy of results without weights.*: vrx finetune model=tiny selector.layers=\[.*\] .*seed=0 runtime.res"
    )
    with pytest.raises(UserError, match=line):
        evaluate(continued("job=evaluate", f"job.run={copy}", "benchmark=tiny_mmlu"))
    with pytest.raises(UserError, match=line):
        revert(continued("job=revert", "revert.layers=[0]"))
    with pytest.raises(UserError, match=line):
        finetune(continued("eval.limit=2"))
    assert state(roots[1]) == before


def test_a_report_of_the_copies_has_their_scores_by_question(
    continued: Make, roots: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs = find_runs(tmp_path, roots[1])
    originals = {run.record.run_id: run for run in find_runs(roots[0])}
    assert {run.record.run_id: run.record for run in runs} == {key: run.record for key, run in originals.items()}
    for run in runs:
        original = originals[run.record.run_id]
        for name in run.record.scores:
            scores = question_scores([run])(run, name)
            assert scores and scores == question_scores([original])(original, name)
    report(continued("job=report"))
    assert "tiny_mmbench" in (tmp_path / "report" / "index.html").read_text()


def test_a_folder_of_results_that_is_not_there_is_refused(make_run: Make):
    with pytest.raises(UserError, match=r"runtime.results: nowhere is no folder"):
        make_run("runtime.results=[nowhere]")
