"""A sweep that is killed anywhere ends like one that was left alone."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support.processes import started
from support.whole_runs import ENVIRONMENT, SMOKE, command, has_steps, kill_at, kill_worker, left_behind


def answered(root: Path) -> bool:
    return any(root.glob("outputs/finetune/*/*/answers/tiny_gqa.jsonl"))


def both_train(root: Path) -> bool:
    return len([path for path in root.glob("outputs/finetune/*/*/train.jsonl") if path.read_text().count("\n")]) == 2


@pytest.mark.slow
def test_a_sweep_killed_again_and_again_ends_like_one_left_alone(calm_sweep: Path, vrx: Any, tmp_path: Path):
    kill_at(tmp_path, SMOKE, has_steps(3))
    kill_at(tmp_path, SMOKE, answered, whole_group=False)
    with started(command(*SMOKE), cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE) as third:
        while not both_train(tmp_path):
            assert third.poll() is None
            time.sleep(0.02)
        kill_worker(tmp_path)
        stderr = third.communicate(timeout=300)[1]
    assert third.returncode == 2 and "was killed by SIGKILL" in stderr and "1 of 2 runs failed" in stderr
    ended = vrx(*SMOKE)
    assert ended.returncode == 0, ended.stderr
    assert left_behind(tmp_path) == left_behind(calm_sweep) and len(left_behind(tmp_path)) == 2
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/finetune/*/*/train.json")}
    again = vrx(*SMOKE)
    assert again.returncode == 0 and "2 of 2 runs done" in again.stdout
    assert again.stderr.count("finished before") == 2
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
