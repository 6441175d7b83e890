"""The worker stages of `vrx bench`: synthetic inputs, training with the baseline, and inference."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vrx.config.job_options import required
from vrx.config.schema import ModelConfig, RunConfig
from vrx.data import sampler
from vrx.data.instructions import dataset, instruction_dataset
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import Generator, prompt_batches
from vrx.jobs.bench import baseline, synthetic
from vrx.jobs.bench.files import BenchDir, SyntheticInputs, inference_file
from vrx.launch.devices import DTYPES, device, dtype, peak_memory_gb
from vrx.launch.logging import is_main
from vrx.launch.ranks import set_ready, world_size
from vrx.metrics.answer import Answer
from vrx.models import architecture, loading, probe
from vrx.runs.files import read_json, write_json
from vrx.runs.layer_selection import select_layers
from vrx.runs.run_dir import RunDir
from vrx.training import train_log
from vrx.training.flops import step_flops
from vrx.training.matmul_throughput import peak_flops_per_second

NEW_TOKENS = 8  # generated per answer


def write_synthetic_inputs(run: RunConfig, run_dir: Path) -> None:
    """Write the weights and samples that `requested_inputs.json` describes; rank 0 alone works."""
    set_ready(run_dir)
    if not is_main():
        return
    bench_dir = BenchDir(run_dir)
    inputs = SyntheticInputs.read(bench_dir.requested_inputs)
    if inputs.like is not None:
        like = ModelConfig(**inputs.like)
        synthetic.write_parts(like, bench_dir.parts, scale=inputs.scale, dtype=DTYPES[run.train.dtype])
    synthetic.write_instructions(
        run.model,
        bench_dir.data,
        lengths=list(inputs.lengths),
        supervised=inputs.supervised,
        num_samples=inputs.num_samples,
    )
    inputs.write(bench_dir.inputs)


def train_baseline(run: RunConfig, run_dir: Path) -> None:
    """Train with `vrx/jobs/bench/baseline.py`; writes `train.jsonl` and `train.json` as the stage `train` does."""
    rows = instruction_dataset.open_table(Path(read_json(run_dir / "data.json")["table"]))
    plan = sampler.BatchPlan(list(range(len(rows))), run.train, seed=run.seed)
    tokenizer = loading.load_model_tokenizer(run.model)
    samples = dataset.TrainingDataset(
        rows,
        run.model,
        tokenizer,
        image_token_id=loading.image_token_id(run.model, tokenizer),
        image_folder=Path(run.instructions.image_folder or ""),
        on_bad_image="error",
    )
    set_ready(run_dir)
    layers = select_layers(run)
    shape = architecture.parameter_counts(run.model)
    assert shape is not None, "synthetic parts have a config.json"
    lines = []
    for row in baseline.train_baseline(run, samples, plan, layers, tokenizer):
        loads = row["loads"]
        flops = sum(step_flops(load, shape, num_layers=len(layers), lora=run.lora) for load in loads)
        tokens = sum(load.tokens for load in loads)
        counts = {"tokens": tokens, "samples": run.train.global_batch_size, "flops": flops, "loss": 0.0}
        timing = {"step": row["step"], "seconds": row["seconds"], "seconds_waiting_for_data": 0.0}
        lines.append(json.dumps({**timing, **counts}))
    if not is_main():
        return
    RunDir(run_dir).train_log.write_text("\n".join(lines) + "\n")
    summary = train_log.summarize(
        run_dir,
        trainable_parameters=shape.trainable_parameters(len(layers), run.lora),
        num_gpus=0,
        peak_memory_gb=peak_memory_gb(),
        peak_flops_per_second=world_size() * peak_flops_per_second(DTYPES[run.train.dtype]),
    )
    summary.write(RunDir(run_dir).train_summary)


def measure_inference(run: RunConfig, run_dir: Path) -> None:
    """Write `inference.json`: seconds per sample of generation, one at a time and batched, and of scoring layers.

    Rank 0 alone works, as the ranks of an evaluation share out samples and do not wait for each other.
    """
    if not is_main():
        return
    lvlm = loading.load(run.model, dtype=dtype(run.train))
    generator = Generator(lvlm, loading.load_model_tokenizer(run.model), run.model)
    set_ready(run_dir)
    size = run.eval.batch_size
    questions = _questions(run, size)

    def generate(number: int, batch_size: int) -> None:
        for first in range(0, number, batch_size):
            batch = [generator.encode(sample) for sample in questions[first : first + batch_size]]
            generator.answer(batch, NEW_TOKENS)

    few = min(4, size)
    tasks: dict[str, tuple[int, Callable[[], object]]] = {
        "generation, 1 at a time": (few, lambda: generate(few, 1)),
        f"generation, {size} at a time": (size, lambda: generate(size, size)),
        "scoring": (size, lambda: probe.mean_scores(lvlm, prompt_batches(generator, questions, batch_size=size))),
    }
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(1 + required(run.bench).steps):  # in turn, so that all meet the machine in the same state
        for name, (number, task) in tasks.items():
            seconds[name].append(_seconds(task) / number)
    timings = {name: {"seconds": statistics.median(times[1:]), "all": times[1:]} for name, times in seconds.items()}
    write_json(inference_file(run_dir), {"timings": timings, "peak_memory_gb": peak_memory_gb()})


def _seconds(task: Callable[[], object]) -> float:
    began = time.perf_counter()
    task()
    if device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _questions(run: RunConfig, number: int) -> list[Sample]:
    folder = Path(run.instructions.image_folder or "")
    rows = json.loads(Path(run.instructions.path or "").read_text())[:number]
    assert len(rows) == number, "there are at least eval.batch_size synthetic samples"
    prompts = [row["conversations"][0]["value"].replace("<image>\n", "") for row in rows]
    return [
        Sample(prompt, folder / row["image"], Answer(row["id"], "", ("red",)))
        for prompt, row in zip(prompts, rows, strict=True)
    ]
