"""The stage `generate`: answers to every benchmark of a run."""

from __future__ import annotations

from pathlib import Path

from vrx import finished
from vrx.asking import ask_all
from vrx.config import RunConfig
from vrx.devices import dtype, join
from vrx.distributed import set_ready
from vrx.generate import Generator
from vrx.models import image_token_id, tokenizer_of


def generate(run: RunConfig, run_dir: Path) -> None:
    """Answer the benchmarks with the LVLM of the run's directory, the untouched one where nothing was done to it."""
    join()
    tokenizer = tokenizer_of(run.model)
    lvlm = finished.load(run.model, run_dir, dtype=dtype(run.train))
    generator = Generator(lvlm, tokenizer, run.model, image_token_id=image_token_id(run.model, tokenizer))
    set_ready(run_dir)
    ask_all(generator, run, run_dir)
