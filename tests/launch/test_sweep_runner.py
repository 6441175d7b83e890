"""The scheduler of a sweep: processes, GPUs, failures, and runs whose lock another vrx holds."""

from __future__ import annotations

import errno
import itertools
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vrx.launch.sweep_runner import Job, JobState, Scheduler, distinct, failure_reason, gpu_shares, time_left_text
from vrx.runs.locks import exclusive_lock
from vrx.runs.status import RunStatus

REFUSES = "import sys; print('vrx: model=none: no such option', file=sys.stderr); sys.exit(2)"


def job(
    name: str, code: str = "", *, state: str = "to do", run_dir: Path | None = None, expected: float | None = None
) -> Job:
    """A run whose process executes some code."""
    status = RunStatus(state, "a reason", run_dir, expected)  # type: ignore[arg-type]
    return Job(name, [sys.executable, "-c", code], lambda: status, status)


def scheduler(jobs: list[Job], logs: Path, **options: Any) -> Scheduler:
    return Scheduler(jobs, **{"logs": logs, "gpus": (), "gpus_per_run": None, **options})


def printed(jobs: list[Job]) -> list[str]:
    """What each run printed."""
    return [started.log_file.read_text().strip() for started in jobs if started.log_file]


def test_a_run_held_by_another_vrx_is_reported_and_waited_for(tmp_path: Path, capsys: Any):
    """When the other vrx releases the lock, the run is done; this sweep starts no process."""
    held = job("seed=1", run_dir=tmp_path / "run")
    lines: list[str] = []
    with ThreadPoolExecutor() as pool:
        with exclusive_lock(tmp_path / "run"):
            ended = pool.submit(scheduler([held], tmp_path / "logs").run)
            while not lines and not ended.done():
                lines += capsys.readouterr().err.splitlines()
                time.sleep(0.05)
            held.look = lambda: RunStatus("done", "done", tmp_path / "run")
        assert ended.result(timeout=30) == []
    assert lines == ["vrx: held by another vrx: seed=1; this sweep waits for it"]
    assert capsys.readouterr().err.splitlines() == ["vrx: done: seed=1, finished before"]
    assert held.process is None


def test_jobs_that_ask_the_same_of_one_directory_are_one(tmp_path: Path):
    first, again, other, elsewhere = (job(name, run_dir=tmp_path / "run") for name in "abcd")
    other.asks, elsewhere.status = "more", RunStatus("to do", "a reason", tmp_path / "another run")
    assert distinct([first, again, other, elsewhere]) == {
        **{first: first, again: first},
        **{other: other, elsewhere: elsewhere},
    }
    unknown = [job("a"), job("b")]
    assert distinct(unknown) == {each: each for each in unknown}, "their directories may differ once data are made"


def test_jobs_of_one_directory_run_one_after_another_and_keep_their_logs(tmp_path: Path):
    """Each fails if it finds the other's file, and deletes its own at the end."""
    code = "import pathlib; f = pathlib.Path({!r}); f.touch(exist_ok=False); print({}); f.unlink()"
    jobs = [job(f"seed={n}", code.format(str(tmp_path / "lock"), n), run_dir=tmp_path / "run") for n in range(4)]
    assert scheduler(jobs, tmp_path / "logs", gpus=tuple("0123"), gpus_per_run=1).run() == []
    assert printed(jobs) == list("0123")
    assert all(late.started_at > early.started_at for early, late in itertools.pairwise(jobs))


def test_a_finished_run_is_skipped_with_its_reason(tmp_path: Path, capsys: Any):
    finished = job("seed=1", state="done")
    assert scheduler([finished], tmp_path).run() == []
    assert finished.process is None
    assert capsys.readouterr().err == "vrx: done: seed=1, finished before\n"


def test_a_run_that_cannot_be_started_is_reported_and_the_others_go_on(tmp_path: Path, capsys: Any):
    broken, done = job("seed=1"), job("seed=2")

    def refuse() -> RunStatus:
        raise PermissionError(errno.EACCES, "no", str(tmp_path))

    broken.look, done.look = refuse, lambda: RunStatus("done", "done")
    assert scheduler([broken, done], tmp_path / "logs").run() == [broken]
    failed, finished = capsys.readouterr().err.splitlines()
    assert failed.startswith(f"vrx: failed: seed=1: {tmp_path}: Permission denied; ")
    assert finished.startswith("vrx: done: seed=2")


def test_the_reason_of_a_killed_worker_is_separated_from_its_progress_bar(tmp_path: Path):
    failed = job("seed=1")
    failed.log_file = tmp_path / "log"
    failed.log_file.write_text("vrx: tiny: tuning\n\rtrain: 0/6\rtrain: 1/6vrx: train was killed by SIGKILL (x)\n")
    failed.process = subprocess.Popen(["sh", "-c", "exit 2"])
    failed.process.wait()
    assert failure_reason(failed) == "train was killed by SIGKILL (x)"


def test_a_failure_is_reported_with_the_runs_own_line(tmp_path: Path, capsys: Any):
    refused, good = job("model=none", REFUSES), job("seed=2")
    assert scheduler([refused, good], tmp_path).run() == [refused]
    assert good.state is JobState.DONE
    assert capsys.readouterr().err.splitlines()[0] == "vrx: failed: model=none: model=none: no such option"


def test_a_crash_is_reported_with_its_log(tmp_path: Path, capsys: Any):
    crashed = job("seed=1", "raise SystemExit(1)")
    assert scheduler([crashed], tmp_path).run() == [crashed]
    assert capsys.readouterr().err == f"vrx: failed: seed=1: ended with status 1; see {crashed.log_file}\n"


def test_fail_fast_stops_at_the_first_failure(tmp_path: Path, capsys: Any):
    refused, other = job("model=none", REFUSES), job("seed=2")
    assert scheduler([refused, other], tmp_path, fail_fast=True).run() == [refused]
    assert "failed: model=none: model=none: no such option" in capsys.readouterr().err
    assert other.process is None


def test_fail_fast_ends_the_running_runs(tmp_path: Path):
    slow, refused = job("slow", "import signal; signal.pause()"), job("model=none", REFUSES)
    assert scheduler([slow, refused], tmp_path, gpus=("0", "1"), gpus_per_run=1, fail_fast=True).run() == [refused]
    assert slow.process is not None
    assert slow.process.returncode is not None


def test_each_run_sees_only_its_share_of_the_gpus(tmp_path: Path):
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    jobs = [job(f"seed={number}", code) for number in range(3)]
    assert scheduler(jobs, tmp_path, gpus=("5", "7"), gpus_per_run=1).run() == []
    assert printed(jobs) == [started.gpus[0] for started in jobs]
    assert [started.gpus for started in jobs[:2]] == [("5",), ("7",)]
    assert jobs[2].started_at > max(jobs[0].started_at, jobs[1].started_at)


def test_gpus_are_divided_into_equal_shares():
    assert gpu_shares(list("0123"), None) == [("0", "1", "2", "3")]
    assert gpu_shares(list("01234"), 2) == [("0", "1"), ("2", "3")]
    assert gpu_shares(list("01"), 8) == [("0", "1")]
    assert gpu_shares([], 2) == [()]


def test_runs_without_a_known_directory_have_separate_logs(tmp_path: Path):
    prefix = "x" * 200
    jobs = [job(f"{prefix}{number}", f"print({number})") for number in range(2)]
    scheduler(jobs, tmp_path).run()
    assert printed(jobs) == ["0", "1"]


def test_the_status_line_counts_runs_by_state(tmp_path: Path):
    jobs = [job("a"), job("b"), job("c")]
    jobs[0].state, jobs[1].state = JobState.DONE, JobState.HELD
    assert scheduler(jobs, tmp_path).status_line() == "1/3 done, 0 running, 0 failed, 1 held by another vrx"


def test_the_time_left_comes_from_similar_runs_until_one_has_finished():
    jobs = [job("a", expected=1.0), job("b", expected=0.5), job("c")]
    assert time_left_text(jobs, [], 1) == ", 2 h 15 min left"  # c takes the mean of the others
    assert time_left_text(jobs, [], 2) == ", 1 h 7 min left"
    assert time_left_text(jobs, [600.0], 1) == ", 0 h 30 min left"
    assert time_left_text([job("c")], [], 1) == time_left_text([], [60.0], 1) == ""
