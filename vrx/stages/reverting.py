"""The stage `revert`: the benchmarks of several reversions of one LVLM, which is loaded once."""

from __future__ import annotations

from pathlib import Path

from vrx import finished, lora
from vrx.answers import done_to
from vrx.asking import ask_all
from vrx.checks import thaw
from vrx.config import RunConfig
from vrx.devices import dtype, join
from vrx.distributed import log, set_ready
from vrx.generate import Generator
from vrx.models import image_token_id, tokenizer_of
from vrx.records import read_json
from vrx.surgery import reverted


def revert(run: RunConfig, run_dir: Path) -> None:
    """Answer in each directory that `reversions.json` lists with the layers put back that are put back there."""
    join()
    folders = [run_dir.parent / name for name in read_json(run_dir / "reversions.json")]
    tokenizer = tokenizer_of(run.model)
    lvlm = lora.load_tuned(run.model, done_to(run_dir).source, dtype=dtype(run.train))
    generator = Generator(lvlm, tokenizer, run.model, image_token_id=image_token_id(run.model, tokenizer))
    backbone = finished.backbone(run.model)
    set_ready(run_dir)
    for folder in folders:
        layers = done_to(folder).reverted
        log(f"layers put back: {', '.join(map(str, layers)) or 'none'}")
        with reverted(lvlm, backbone, layers):
            ask_all(generator, thaw(folder / "config.yaml"), folder)
