"""The stage `generate`, which fine-tuning and `vrx evaluate` share: predictions for all benchmarks of a run.

Every rank loads the LVLM and answers its share of the questions; the first rank merges the shares. Benchmarks whose
predictions are complete are skipped, and a benchmark that was interrupted is resumed.
"""

from __future__ import annotations

from pathlib import Path

from vrx.config.schema import RunConfig
from vrx.evaluation.generation import Generator
from vrx.evaluation.run_benchmarks import run_benchmarks
from vrx.launch.devices import init_process_group
from vrx.launch.ranks import set_ready


def generate(run: RunConfig, run_dir: Path) -> None:
    """Write the prediction files of a run directory.

    The LVLM is the one that the directory holds (tuned, reverted or pruned), or the base model where it holds none.
    """
    init_process_group()
    generator = Generator.load(run, run_dir)
    set_ready(run_dir)
    run_benchmarks(generator, run, run_dir)
