"""The process that computes with weights: `python -m vrx.launch.worker <stage> <run_dir>`, started by the driver.

Its only input is the frozen configuration in the run directory.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import transformers

from vrx.config.schema import RunConfig
from vrx.launch import preemption
from vrx.launch.ranks import die_with_parent, end_process, local_rank, report_error
from vrx.runs.run_config import read_command_config

STAGES = {
    "train": "vrx.jobs.finetune.worker:train",
    "pretrain": "vrx.jobs.pretrain.worker:pretrain",
    "generate": "vrx.jobs.evaluate.worker:generate",
    "score": "vrx.jobs.score.worker:score",
    "revert": "vrx.jobs.revert.worker:revert",
    "check": "vrx.jobs.check.worker:check",
    "prune": "vrx.jobs.prune.worker:prune",
    "export": "vrx.jobs.export.worker:export",
    "ask": "vrx.jobs.ask.worker:ask",
    "compare": "vrx.jobs.compare.worker:compare",
    "demo": "vrx.jobs.demo.worker:demo",
    "write_synthetic_inputs": "vrx.jobs.bench.worker:write_synthetic_inputs",
    "train_baseline": "vrx.jobs.bench.worker:train_baseline",
    "measure_inference": "vrx.jobs.bench.worker:measure_inference",
}

DEPRECATIONS = (  # warnings about calls from one library to another
    r"`torch\.distributed\.\w+` is deprecated",
    r"`is_gradient_checkpointing` is deprecated",
)


def _stage(name: str) -> Callable[[RunConfig, Path], None]:
    module, _, function = STAGES[name].partition(":")
    return getattr(importlib.import_module(module), function)


def main() -> None:
    """Run the stage; an error is left for the driver, see `vrx.launch.ranks.report_error`."""
    preemption.install(lambda: end_process(preemption.RESUME))
    die_with_parent()
    end_process(_run(sys.argv[1], Path(sys.argv[2])))


def _run(stage: str, run_dir: Path) -> int:
    """Run the stage; returns the exit status."""
    for message in DEPRECATIONS:
        warnings.filterwarnings("ignore", message, FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    try:
        run = read_command_config(run_dir)
        torch.backends.cuda.matmul.allow_tf32 = run.train.tf32 is not False
        _stage(stage)(run, run_dir)
    except preemption.Preempted:
        return preemption.RESUME
    except Exception as error:
        return report_error(stage, run_dir, error)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    main()
