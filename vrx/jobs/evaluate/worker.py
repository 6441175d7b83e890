"""The stage `generate`: answers to every benchmark of a run."""

from __future__ import annotations

from pathlib import Path

from vrx.config.schema import RunConfig
from vrx.evaluation.generation import Generator
from vrx.evaluation.run_benchmarks import ask_all
from vrx.launch.devices import dtype, init_process_group
from vrx.launch.ranks import set_ready
from vrx.models import from_run
from vrx.models.loading import image_token_id, tokenizer_of


def generate(run: RunConfig, run_dir: Path) -> None:
    """Answer the benchmarks with the LVLM of the run's directory, the untouched one where nothing was done to it."""
    init_process_group()
    tokenizer = tokenizer_of(run.model)
    lvlm = from_run.load_from_run(run.model, run_dir, dtype=dtype(run.train))
    generator = Generator(lvlm, tokenizer, run.model, image_token_id=image_token_id(run.model, tokenizer))
    set_ready(run_dir)
    ask_all(generator, run, run_dir)
