"""Sweeps: what they expand to, what is shared, and that killing them anywhere changes nothing."""

from __future__ import annotations

import errno
import functools
import random
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from support.whole_runs import ENVIRONMENT, SMOKE, STEPS, command, has_steps, kill_at, kill_worker, left_behind

from vrx.config import compose
from vrx.config.compose import compose_config, composing
from vrx.config.frozen import to_run
from vrx.config.paths import CONF
from vrx.launch.sweep_runner import Job, Progress, reason, run_all, time_left_text
from vrx.runs import files
from vrx.runs.locks import exclusive_lock
from vrx.runs.lookup import run_identity

ARTEFACTS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml") if path.stem != "none")
MODELS = {"figure3": ("bunny-llama3-8b", "llava-1.5-7b"), "table4": ("bunny-llama3-8b", "llava-1.5-7b")}
FINE_TUNES = ("table1", "table2", "table3_llava_7b", "table3_llava_13b", "figure2")


@functools.cache  # composing a run takes a fifth of a second
def identities(*overrides: str, among: str = "") -> list[str]:
    """What the runs of a sweep train, each as a digest; of those only that have the override `among`."""
    with composing(CONF):
        wanted = [item for item in compose.expand_sweep(list(overrides)) if not among or among in item]
        runs = [to_run(compose_config(item)) for item in wanted]
    return [files.digest(run_identity(run, "the data")) for run in runs]


@pytest.mark.parametrize(
    "overrides", [["seed=0,1", "engine.name=torch"], ["seed=range(3)", "lora={r:4,alpha:8},{r:8}"]]
)
def test_a_sweep_expands_as_hydras_own_sweeper_does(run_schema: None, overrides: list[str]):
    with composing(CONF):
        ours = compose.expand_sweep(overrides)
    (theirs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)
    assert ours == [list(item) for item in theirs]


def test_a_list_on_the_command_line_takes_the_place_of_the_files(run_schema: None):
    with composing(CONF):
        found = compose.expand_sweep(["sweep=smoke", "selector=random", "seed=1,2"])
    assert found == [["selector=random", "sweep=smoke", f"seed={seed}"] for seed in (1, 2)]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["sweep=table1"], True),
        (["-m", "seed=0,1"], True),
        (["seed=0,1", "--multirun"], True),
        (["hydra.mode=MULTIRUN", "seed=0,1"], True),
        (["seed=1", "sweep.dry_run=true"], True),
        (["seed=1", "sweep.dry_run=false"], False),
        (["sweep=none"], False),
        (["selector=all", "sweep=table1", "hydra.mode=RUN"], False),
        (["seed=1"], False),
        (["sweep=table1", "--cfg", "job"], False),
        (["--help"], False),
    ],
)
def test_several_runs_are_told_from_one(arguments: list[str], wanted: bool):
    assert compose.is_sweep(arguments) is wanted


def test_the_papers_fifty_fine_tunes_are_forty_one(run_schema: None):
    listed = [identity for name in FINE_TUNES for identity in identities(f"sweep={name}")]
    assert (len(listed), len(set(listed))) == (50, 41)
    assert set(identities("sweep=figure3")) <= set(listed)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_every_sweep_composes_at_full_size_and_in_small(run_schema: None, name: str):
    chosen = ["selector=random"] if name == "controls" else []  # its others wait for scores, see test_scores.py
    whole = identities(f"sweep={name}", *chosen)
    assert whole
    if name != "table3_llava_13b":  # of 40 layers
        small = identities(f"sweep={name}", "model=tiny", "seed=0,1", *chosen, among="seed=1")
        assert len(small) * len(MODELS.get(name, ("one",))) == len(whole)


def test_a_dry_run_lists_and_starts_nothing(vrx: Callable[..., subprocess.CompletedProcess], tmp_path: Path):
    told = vrx("sweep=table2", "model=tiny", "sweep.dry_run=true")
    assert told.returncode == 0, told.stderr
    assert "7 distinct runs: 0 done, 0 resumable, 7 to do" in told.stdout
    assert not list(tmp_path.iterdir())


def test_a_failed_run_is_told_at_once_and_does_not_stop_the_others(vrx: Callable[..., Any], tmp_path: Path):
    told = vrx("-m", "selector.layers=[0]", "train.lr=1e30,1e-3", *STEPS, "engine.name=torch", "benchmark=tiny_gqa")
    assert told.returncode == 2
    failed, done = [line for line in told.stderr.splitlines() if line.startswith(("vrx: failed: ", "vrx: done: "))]
    assert "train.lr=1e+30" in failed and "loss of step" in failed and "train.lr=0.001" in done
    assert "1 of 2 runs done" in told.stdout and "1 of 2 runs failed" in told.stderr
    assert len(list(tmp_path.glob("outputs/finetune/tiny/*/record.json"))) == 1


def job(name: str, state: str = "to do", run_dir: Path | None = None, expected: float | None = None) -> Job:
    progress = Progress(state, run_dir, expected)  # type: ignore[arg-type]
    return Job([name], lambda: progress, progress)


def test_a_run_that_another_vrx_works_on_is_told_waited_for_and_then_done(tmp_path: Path, capsys: Any):
    """The lock is the other vrx's; when it falls, the run is done, and nothing is started here."""
    held = job("seed=1", run_dir=tmp_path / "run")
    lines: list[str] = []
    with ThreadPoolExecutor() as pool:
        with exclusive_lock(tmp_path / "run"):
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


def test_the_reason_is_found_behind_the_progress_bar_of_a_killed_worker(tmp_path: Path):
    failed = job("seed=1")
    failed.log_file = tmp_path / "log"
    failed.log_file.write_text("vrx: tiny: tuning\n\rtrain: 0/6\rtrain: 1/6vrx: train ended with status -9 (x)\n")
    failed.process = subprocess.Popen(["sh", "-c", "exit 2"])
    failed.process.wait()
    assert reason(failed) == "train ended with status -9 (x)"


def test_the_first_failure_ends_a_sweep_that_is_to_fail_fast(tmp_path: Path, capsys: Any):
    refused, other = job("model=none"), job("seed=2")
    assert run_all([refused, other], logs=tmp_path, gpus=(), gpus_per_run=None, fail_fast=True) == [refused]
    assert "failed: model=none: model=none: no such option" in capsys.readouterr().err and other.process is None


def test_runs_share_the_gpus_and_each_sees_its_own(tmp_path: Path):
    seen = "train.max_steps=${oc.env:CUDA_VISIBLE_DEVICES}"
    jobs = [job(f"seed={number}") for number in range(3)]
    for one in jobs:
        one.overrides = ["--cfg", "job", "--resolve", *one.overrides, seen]
    assert run_all(jobs, logs=tmp_path, gpus=("5", "7"), gpus_per_run=1) == []
    told = [one.log_file.read_text() for one in jobs if one.log_file]
    assert [f"max_steps: {gpu}\n" in text for text, gpu in zip(told, "57", strict=False)] == [True, True]
    assert jobs[2].gpus in (("5",), ("7",)) and f"max_steps: {jobs[2].gpus[0]}\n" in told[2]
    assert jobs[2].began > max(jobs[0].began, jobs[1].began)


def test_the_time_left_is_that_of_runs_like_these_before_any_has_ended():
    jobs = [job("a", expected=3600.0), job("b", expected=1800.0), job("c")]
    assert time_left_text(jobs, [], 1) == ", 2 h 15 min left"  # c as the others on average
    assert time_left_text(jobs, [], 2) == ", 1 h 7 min left"
    assert time_left_text(jobs, [600.0], 1) == ", 0 h 30 min left"
    assert time_left_text([job("c")], [], 1) == time_left_text([], [60.0], 1) == ""


def test_a_sweep_over_several_nodes_is_refused_with_the_way_that_works(vrx: Callable[..., Any]):
    nodes = ("runtime.num_nodes=2", "runtime.node_rank=0", "runtime.rendezvous=127.0.0.1:1")
    told = vrx("sweep=smoke", "train.micro_batch_size=1", *nodes)
    assert told.returncode == 2 and "hydra.launcher.nodes=2" in told.stderr.splitlines()[-1]


def answered(root: Path) -> bool:
    return any(root.glob("outputs/finetune/*/*/answers/tiny_gqa.jsonl"))


def both_train(root: Path) -> bool:
    return len([path for path in root.glob("outputs/finetune/*/*/train.jsonl") if path.read_text().count("\n")]) == 2


@pytest.mark.slow
def test_a_sweep_killed_again_and_again_ends_like_one_left_alone(calm_sweep: Path, vrx: Any, tmp_path: Path):
    kill_at(tmp_path, SMOKE, has_steps(random.randint(1, 5)))
    kill_at(tmp_path, SMOKE, answered, whole_group=False)
    third = subprocess.Popen(command(*SMOKE), cwd=tmp_path, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE)
    while not both_train(tmp_path):
        assert third.poll() is None
        time.sleep(0.02)
    kill_worker(tmp_path)
    stderr = third.communicate(timeout=300)[1]
    assert third.returncode == 2 and "ended with status -9" in stderr and "1 of 2 runs failed" in stderr
    told = vrx(*SMOKE)
    assert told.returncode == 0, told.stderr
    assert left_behind(tmp_path) == left_behind(calm_sweep) and len(left_behind(tmp_path)) == 2
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/finetune/*/*/train.json")}
    began = time.monotonic()
    again = vrx(*SMOKE)
    assert again.returncode == 0 and "2 of 2 runs done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert time.monotonic() - began < 10
