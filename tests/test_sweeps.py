"""Sweeps: what they expand to, what is shared, and that killing them anywhere changes nothing."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import command
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_runs import STEPS, adapter, has_steps, kill_at, rows

from vrx import expansion, records
from vrx.checks import to_run
from vrx.expansion import composed, composing
from vrx.locks import only_one
from vrx.multirun import Job, Progress, run_all, time_left
from vrx.paths import CONF

ARTEFACTS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml") if path.stem != "none")
FINE_TUNES = ("table1", "table2", "table3_llava_7b", "table3_llava_13b", "figure2")


def identities(*overrides: str) -> list[str]:
    """What the runs of a sweep train, each as a digest."""
    with composing(CONF):
        runs = [to_run(composed(item)) for item in expansion.expand(list(overrides))]
    return [records.digest(records.identity(run, "the data")) for run in runs]


@pytest.mark.parametrize(
    "overrides", [["seed=0,1", "engine.name=torch"], ["seed=range(3)", "lora={r:4,alpha:8},{r:8}"]]
)
def test_a_sweep_expands_as_hydras_own_sweeper_does(run_schema: None, overrides: list[str]):
    with composing(CONF):
        ours = expansion.expand(overrides)
    (theirs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)
    assert ours == [list(item) for item in theirs]


def test_a_list_on_the_command_line_takes_the_place_of_the_files(run_schema: None):
    with composing(CONF):
        found = expansion.expand(["sweep=smoke", "selector=random", "seed=1,2"])
    assert found == [["selector=random", "sweep=smoke", f"seed={seed}"] for seed in (1, 2)]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["sweep=table1"], True),
        (["-m", "seed=0,1"], True),
        (["seed=0,1", "--multirun"], True),
        (["sweep=none"], False),
        (["selector=all", "sweep=table1", "hydra.mode=RUN"], False),
        (["seed=1"], False),
        (["sweep=table1", "--cfg", "job"], False),
        (["--help"], False),
    ],
)
def test_several_runs_are_told_from_one(arguments: list[str], wanted: bool):
    assert expansion.is_sweep(arguments) is wanted


def test_the_papers_fifty_fine_tunes_are_forty_one(run_schema: None):
    listed = [identity for name in FINE_TUNES for identity in identities(f"sweep={name}")]
    assert (len(listed), len(set(listed))) == (50, 41)
    assert set(identities("sweep=figure3")) <= set(listed)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_every_sweep_composes_at_full_size_and_in_small(run_schema: None, name: str):
    chosen = ["selector=random"] if name == "controls" else []  # its others wait for scores, see test_scores.py
    assert identities(f"sweep={name}", *chosen)
    if name != "table3_llava_13b":  # of 40 layers
        assert identities(f"sweep={name}", "model=tiny", "seed=0,1", *chosen)


def test_a_dry_run_lists_and_starts_nothing(vrx: Callable[..., subprocess.CompletedProcess], tmp_path: Path):
    told = vrx("sweep=table2", "model=tiny", "sweep.dry_run=true")
    assert told.returncode == 0, told.stderr
    assert "7 distinct runs: 0 done, 0 resumable, 7 to do" in told.stdout
    assert not list(tmp_path.iterdir())


def test_a_failed_run_is_told_at_once_and_does_not_stop_the_others(vrx: Callable[..., Any], tmp_path: Path):
    told = vrx("-m", "selector.layers=[0],[1]", "train.lr=1e-3,1e30", *STEPS, "engine.name=torch", "benchmark=tiny_gqa")
    assert told.returncode == 2
    failed = [line for line in told.stderr.splitlines() if line.startswith("vrx: failed: ")]
    assert len(failed) == 2 and all("train.lr=1e+30" in line and "loss of step" in line for line in failed)
    assert "2 of 4 runs done" in told.stdout
    assert len(list(tmp_path.glob("outputs/finetune/tiny/*/record.json"))) == 2


def job(name: str, state: str = "to do", run_dir: Path | None = None, expected: float | None = None) -> Job:
    progress = Progress(state, run_dir, expected)  # type: ignore[arg-type]
    return Job([name], lambda: progress, progress)


def test_a_run_that_another_vrx_works_on_is_told_waited_for_and_then_done(tmp_path: Path, capsys: Any):
    """The lock is the other vrx's; when it falls, the run is done, and nothing is started here."""
    held = job("seed=1", run_dir=tmp_path / "run")
    lines: list[str] = []
    with ThreadPoolExecutor() as pool:
        with only_one(tmp_path / "run"):
            ended = pool.submit(run_all, [held], logs=tmp_path / "logs", gpus=(), gpus_per_run=None)
            deadline = time.monotonic() + 30
            while not lines and time.monotonic() < deadline:
                lines += capsys.readouterr().err.splitlines()
                time.sleep(0.05)
            held.look = lambda: Progress("done", tmp_path / "run")
        assert ended.result(timeout=30) == []
    assert lines == ["vrx: held by another vrx: seed=1; this one waits for it"]
    assert capsys.readouterr().err.splitlines() == ["vrx: done: seed=1, already"] and held.process is None


def test_a_run_that_cannot_be_started_is_told_and_the_others_go_on(tmp_path: Path, capsys: Any):
    broken, done = job("seed=1"), job("seed=2")

    def refuse() -> Progress:
        raise PermissionError(errno.EACCES, "no", str(tmp_path))

    broken.look, done.look = refuse, lambda: Progress("done")
    assert run_all([broken, done], logs=tmp_path / "logs", gpus=(), gpus_per_run=None) == [broken]
    failed, finished = capsys.readouterr().err.splitlines()
    assert failed.startswith(f"vrx: failed: seed=1: {tmp_path}: Permission denied; ") and finished.startswith(
        "vrx: done"
    )


def test_the_time_left_is_that_of_runs_like_these_before_any_has_ended():
    jobs = [job("a", expected=3600.0), job("b", expected=1800.0), job("c")]
    assert time_left(jobs, [], 1) == ", 2 h 15 min left"  # c as the others on average
    assert time_left(jobs, [], 2) == ", 1 h 7 min left"
    assert time_left(jobs, [600.0], 1) == ", 0 h 30 min left"
    assert time_left([job("c")], [], 1) == time_left([], [60.0], 1) == ""


def test_a_sweep_over_several_nodes_is_refused_with_the_way_that_works(vrx: Callable[..., Any]):
    nodes = ("runtime.num_nodes=2", "runtime.node_rank=0", "runtime.rendezvous=127.0.0.1:1")
    told = vrx("sweep=smoke", "train.micro_batch_size=1", *nodes)
    assert told.returncode == 2 and "hydra.launcher.nodes=2" in told.stderr.splitlines()[-1]


SMOKE = ("sweep=smoke", *STEPS, "engine.name=torch", "benchmark=[tiny_gqa,tiny_mmlu]")


def left_behind(root: Path) -> dict[str, Any]:
    """Everything of a sweep's runs that must not depend on how it came about."""
    found = {}
    for folder in sorted((root / "outputs" / "finetune" / "tiny").iterdir()):
        record = json.loads((folder / "record.json").read_text())
        kept = {key: record[key] for key in ("run_id", "identity", "layers", "scores")}
        found[folder.name] = (kept, adapter(folder), [(row["step"], row["loss"]) for row in rows(folder)])
    return found


def answered(root: Path) -> bool:
    return any(root.glob("outputs/finetune/*/*/answers/tiny_gqa.jsonl"))


@pytest.mark.slow
def test_a_sweep_killed_again_and_again_ends_like_one_left_alone(tmp_path: Path):
    disturbed, calm = tmp_path / "disturbed", tmp_path / "calm"
    disturbed.mkdir()
    calm.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kill_at(disturbed, SMOKE, has_steps(random.randint(1, 5)))
    kill_at(disturbed, SMOKE, answered, whole_group=False)
    finished = {}
    for root in (disturbed, calm):
        told = subprocess.run(command(*SMOKE), cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        finished[root] = {path: path.stat().st_mtime_ns for path in root.glob("outputs/finetune/*/*/train.json")}
    assert left_behind(disturbed) == left_behind(calm) and len(left_behind(calm)) == 2
    again = subprocess.run(command(*SMOKE), cwd=calm, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "2 of 2 runs done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished[calm]} == finished[calm]
