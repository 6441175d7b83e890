"""What the driver prints when a worker ends with an error, and where the traceback of a bug is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vrx.config.errors import RunFailed
from vrx.config.frozen import freeze
from vrx.config.schema import RunConfig, RuntimeConfig
from vrx.launch.workers import launch

STAGE = """
import sys, types
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


def test_a_bug_is_one_line_that_names_the_log_with_its_traceback(run_stage, tmp_path: Path):
    line, log, stderr = run_stage("raise ValueError('shapes do not match')")
    expected = f"generate failed: ValueError: shapes do not match; the traceback is in {tmp_path}/run/worker.log"
    assert line == expected
    assert log is not None and "Traceback" in log and "shapes do not match" in log
    assert "Traceback" not in stderr


def test_a_users_mistake_is_its_own_line_without_a_traceback(run_stage):
    line, log, stderr = run_stage("raise UserError('model.lvlm=x: no such folder')")
    assert (line, log) == ("model.lvlm=x: no such folder", None)
    assert "Traceback" not in stderr


def test_a_users_mistake_seen_by_a_dataloader_process_is_the_same_line(run_stage):
    assert run_stage(IN_A_DATALOADER)[:2] == ("record 7: image: no such file", None)


@pytest.mark.slow
def test_every_rank_leaves_its_traceback(run_stage):
    body = "import os, time; time.sleep(2 * int(os.environ['RANK'])); raise ValueError(os.environ['RANK'])"
    body = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {body}"  # torchrun ends the second rank
    line, log, _ = run_stage(body, cpu_processes=2)
    assert line.startswith("generate failed: ValueError: 0;")
    assert log is not None and "rank 0, generate" in log and "rank 1, generate" in log
