"""The stage `revert`: the benchmarks of several reversions of one LVLM, which is loaded once."""

from __future__ import annotations

from pathlib import Path

from vrx.config.frozen import load_frozen
from vrx.config.schema import RunConfig
from vrx.evaluation.generation import Generator
from vrx.evaluation.run_benchmarks import ask_all
from vrx.jobs.revert.files import reversions_file
from vrx.launch.devices import dtype, init_process_group
from vrx.launch.logging import log
from vrx.launch.ranks import set_ready
from vrx.models import from_run, lora
from vrx.models.loading import image_token_id, tokenizer_of
from vrx.models.surgery import reverted
from vrx.runs.files import read_json
from vrx.runs.surgery_manifest import read_surgery


def revert(run: RunConfig, run_dir: Path) -> None:
    """Answer in each directory that `reversions.json` lists with the layers put back that are put back there."""
    init_process_group()
    folders = [run_dir.parent / name for name in read_json(reversions_file(run_dir))]
    tokenizer = tokenizer_of(run.model)
    lvlm = lora.load_tuned(run.model, read_surgery(run_dir).source, dtype=dtype(run.train))
    generator = Generator(lvlm, tokenizer, run.model, image_token_id=image_token_id(run.model, tokenizer))
    backbone = from_run.load_backbone(run.model)
    set_ready(run_dir)
    for folder in folders:
        layers = read_surgery(folder).reverted
        log(f"layers put back: {', '.join(map(str, layers)) or 'none'}")
        with reverted(lvlm, backbone, layers):
            ask_all(generator, load_frozen(folder / "config.yaml"), folder)
