"""The stage `generate`: answers to every benchmark of a run."""

from __future__ import annotations

from pathlib import Path

from vrx import answers, benchmarks, lora, models
from vrx import generate as answering
from vrx.config import RunConfig
from vrx.devices import dtype, join
from vrx.distributed import barrier, is_main, log, set_ready


def generate(run: RunConfig, run_dir: Path) -> None:
    """Answer the benchmarks with the tuned LVLM, or the untouched one where the run has no adapter."""
    join()
    tokenizer = models.tokenizer_of(run.model)
    lvlm = lora.load_tuned(run.model, run_dir, dtype=dtype(run.train))
    image_token_id = models.image_token_id(run.model, tokenizer)
    generator = answering.Generator(lvlm, tokenizer, run.model, image_token_id=image_token_id)
    weights = answers.weights_digest(run.model, run_dir)
    set_ready(run_dir)
    for name, config in run.benchmark.items():
        samples = benchmarks.samples(name, config, limit=run.eval.limit)
        made_from = answers.key(weights, samples, config.max_new_tokens)
        if len(answers.read_answers(answers.answers_file(run_dir, name), made_from)) == len(samples):
            continue
        answering.generate(
            generator,
            name,
            samples,
            run_dir,
            max_new_tokens=config.max_new_tokens,
            batch_size=run.eval.batch_size,
            made_from=made_from,
        )
        barrier()
        if is_main():
            answers.collect(run_dir, name, samples, made_from)
            log(f"{name}: {len(samples)} questions answered")
        barrier()
