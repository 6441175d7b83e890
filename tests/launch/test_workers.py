"""A worker that fails: the line that the driver prints, and the traceback of a bug in worker.log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vrx.config.errors import RunFailed
from vrx.config.frozen import freeze
from vrx.config.schema import RunConfig, RuntimeConfig
from vrx.launch.workers import SHAPE_CACHES, SHAPES_KEPT, launch

STAGE = """
import sys, time, types
from vrx.config.errors import UserError

def generate(run, run_dir):
    {body}

stages = types.ModuleType("vrx.jobs.evaluate.worker")
stages.generate = generate
sys.modules[stages.__name__] = stages
"""
IN_A_DATALOADER = """
    import torch
    class Rows:
        __len__ = lambda self: 1
        def __getitem__(self, index):
            raise UserError("record 7: image: no such file")
    next(iter(torch.utils.data.DataLoader(Rows(), num_workers=1)))
"""
ON_TWO_RANKS = """
    import os, signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends rank 1 when rank 0 has failed
    while os.environ["RANK"] == "1" and not (run_dir / "worker.log").exists():
        time.sleep(0.05)
    raise ValueError(os.environ["RANK"])
"""


@pytest.fixture
def run_stage(make_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd):
    """Run a stage with this body in workers; returns the line of its error, worker.log, and what went to stderr."""

    def run_stage(body: str, **runtime: int) -> tuple[str, str | None, str]:
        (tmp_path / "sitecustomize.py").write_text(STAGE.format(body=body))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
        run_dir = tmp_path / "run"
        run_dir.mkdir()
        (run_dir / "config.yaml").write_text(freeze(make_run()))
        with pytest.raises(RunFailed) as caught:
            launch("generate", run_dir, RuntimeConfig(num_gpus=0, **runtime))
        log = run_dir / "worker.log"
        return str(caught.value), log.read_text() if log.exists() else None, capfd.readouterr().err

    return run_stage


def test_workers_keep_few_programs_for_shapes_unless_the_user_says_so(run_stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    body = f"import os; raise UserError(' '.join(os.environ[name] for name in {SHAPE_CACHES}))"
    assert run_stage(body)[0].endswith(f"{SHAPES_KEPT} 7")


def test_a_bug_is_one_line_that_names_worker_log(run_stage, tmp_path: Path):
    line, log, stderr = run_stage("raise ValueError('shapes do not match')")
    expected = f"generate failed: ValueError: shapes do not match; the traceback is in {tmp_path}/run/worker.log"
    assert line == expected
    assert log is not None
    assert "Traceback" in log
    assert "shapes do not match" in log
    assert "Traceback" not in stderr


def test_a_user_error_is_one_line_without_a_traceback(run_stage):
    line, log, stderr = run_stage("raise UserError('model.lvlm=x: no such folder')")
    assert (line, log) == ("model.lvlm=x: no such folder", None)
    assert "Traceback" not in stderr


@pytest.mark.parametrize("then", ["time.sleep(600)", "time.sleep(0)"], ids=["the worker goes on", "it ends"])
def test_a_folder_that_is_removed_ends_the_run_in_one_line(run_stage, tmp_path: Path, then: str):
    line, _, _ = run_stage(f"import shutil; shutil.rmtree(run_dir); {then}")
    assert line == f"{tmp_path / 'run'}: was removed while generate ran"


def test_a_user_error_in_a_dataloader_process_is_the_same_line(run_stage):
    assert run_stage(IN_A_DATALOADER)[:2] == ("record 7: image: no such file", None)


KILLED = """
    import os, signal
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(0.05)
"""


@pytest.mark.slow
def test_of_several_workers_one_that_was_killed_is_named_without_a_traceback(run_stage, tmp_path: Path):
    line, log, stderr = run_stage(KILLED, cpu_processes=2)
    assert line == f"generate was killed by SIGKILL ({tmp_path}/run); run the same command to resume"
    assert log is None and "Traceback" not in stderr


@pytest.mark.parametrize("terminal", [False, True])
def test_the_message_about_a_killed_worker_starts_a_line(run_stage, monkeypatch: pytest.MonkeyPatch, terminal: bool):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    line, _, stderr = run_stage("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "was killed by SIGKILL" in line
    assert stderr.endswith("\n") == terminal, stderr  # after the progress bar, which a terminal alone shows


@pytest.mark.slow
def test_a_rank_that_fails_first_leaves_its_traceback(run_stage):
    line, log, _ = run_stage(ON_TWO_RANKS, cpu_processes=2)
    assert line.startswith(("generate failed: ValueError: 0;", "generate failed: ValueError: 1;"))
    assert log is not None
    assert "rank 0, generate" in log or "rank 1, generate" in log
