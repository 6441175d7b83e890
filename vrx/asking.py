"""All benchmarks of a run asked of one LVLM: what is answered is left alone, the ranks' parts are joined at the end."""

from __future__ import annotations

from pathlib import Path

from vrx import answers, benchmarks
from vrx.config import RunConfig
from vrx.distributed import barrier, is_main, log
from vrx.generate import Generator, generate
from vrx.perplexity import responder


def ask_all(generator: Generator, run: RunConfig, run_dir: Path) -> None:
    """Leave `answers/<benchmark>.jsonl` of every benchmark in the run's directory, which tells the weights' digest."""
    weights = answers.weights_digest(run.model, run_dir)
    for name, config in run.benchmark.items():
        samples = benchmarks.samples(name, config, limit=run.eval.limit)
        made_from = answers.key(weights, samples, config.max_new_tokens, ask=config.ask)
        if len(answers.read_answers(answers.answers_file(run_dir, name), made_from)) == len(samples):
            continue
        generate(
            generator,
            name,
            samples,
            run_dir,
            respond=responder(generator, config),
            batch_size=run.eval.batch_size,
            made_from=made_from,
        )
        barrier()
        if is_main():
            answers.collect(run_dir, name, samples, made_from)
            log(f"{name}: {len(samples)} questions answered")
        barrier()
