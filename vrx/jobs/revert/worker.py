"""The stage `revert`: the benchmarks of several reversions of one LVLM, which is loaded once."""

from __future__ import annotations

from pathlib import Path

from vrx.config.schema import RunConfig
from vrx.evaluation.generation import Generator
from vrx.evaluation.run_benchmarks import run_benchmarks
from vrx.jobs.revert import reversions_file
from vrx.launch.devices import init_process_group
from vrx.launch.logging import log
from vrx.launch.ranks import set_ready
from vrx.models import from_run
from vrx.models.surgery import reverted
from vrx.runs.files import read_json
from vrx.runs.run_config import read_command_config
from vrx.runs.surgery_manifest import read_surgery


def revert(run: RunConfig, run_dir: Path) -> None:
    """Write the prediction files of every directory that `reversions.json` lists.

    In each, the layers that its `surgery.json` names as reverted have the weights of the backbone.
    """
    init_process_group()
    folders = [run_dir.parent / name for name in read_json(reversions_file(run_dir))]
    generator = Generator.load(run, read_surgery(run_dir).source)
    backbone = from_run.load_backbone(run.model)
    set_ready(run_dir)
    for folder in folders:
        layers = read_surgery(folder).reverted
        log(f"reverted layers: {', '.join(map(str, layers)) or 'none'}")
        with reverted(generator.lvlm, backbone, layers):
            run_benchmarks(generator, read_command_config(folder), folder)
