"""The stages of `vrx job=bench`: what is measured made ready, a peer's training, generation and scoring."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vrx.config.schema import RunConfig
from vrx.data import dataset, instruction_dataset, sampler
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import Generator
from vrx.evaluation.run_benchmarks import question_batches
from vrx.jobs.bench import baseline, synthetic
from vrx.launch.devices import DTYPES, device, dtype, peak_memory_gb
from vrx.launch.ranks import set_ready
from vrx.metrics.answer import Answer
from vrx.models import architecture, loading, probe
from vrx.runs.files import read_json, write_json
from vrx.runs.layer_selection import select_layers
from vrx.training import loop, matmul_throughput
from vrx.training.flops import step_flops

NEW_TOKENS = 8  # of an answer


def furnish(run: RunConfig, run_dir: Path) -> None:
    """Leave weights (where the run's are named below its directory) and samples in the run's directory."""
    set_ready(run_dir)
    told = read_json(run_dir / "wanted.json")
    if told["like"] is not None:
        like = type(run.model)(**told["like"])
        synthetic.write_parts(like, run_dir / "parts", scale=told["scale"], dtype=DTYPES[run.train.dtype])
    synthetic.write_instructions(
        run.model,
        run_dir / "data",
        lengths=told["lengths"],
        supervised=run.bench.supervised,
        num_samples=told["num_samples"],
    )
    write_json(run_dir / "made.json", told)


def train_baseline_stage(run: RunConfig, run_dir: Path) -> None:
    """Train with the stack of `vrx/peer.py`; leaves `train.jsonl` and `train.json` as the stage `train` does."""
    rows = instruction_dataset.open_table(Path(read_json(run_dir / "data.json")["table"]))
    plan = sampler.BatchPlan(list(range(len(rows))), run.train, seed=run.seed)
    tokenizer = loading.tokenizer_of(run.model)
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
    assert shape is not None, "its parts were made on this machine"
    lines = []
    for row in baseline.train_baseline(run, samples, plan, layers, tokenizer):
        loads = row.pop("loads")
        needed = sum(step_flops(load, shape, num_layers=len(layers), r=run.lora.r) for load in loads)
        told = {"tokens": sum(load.tokens for load in loads), "operations": needed, "loss": 0.0, "bad_images": []}
        lines.append(json.dumps({**row, **told, "seconds_waiting_for_data": 0.0}))
    (run_dir / "train.jsonl").write_text("\n".join(lines) + "\n")
    told = loop.summary(
        run_dir,
        trainable_parameters=shape.trainable_parameters(len(layers), run.lora.r),
        num_gpus=0,
        peak_memory_gb=peak_memory_gb(),
        ceiling=matmul_throughput.measured_matmul_flops(DTYPES[run.train.dtype]),
    )
    write_json(run_dir / "train.json", told)


def infer(run: RunConfig, run_dir: Path) -> None:
    """Leave `inference.json`: seconds a sample of generation, one at a time and batched, and of scoring."""
    tokenizer = loading.tokenizer_of(run.model)
    lvlm = loading.load(run.model, dtype=dtype(run.train))
    generator = Generator(lvlm, tokenizer, run.model, image_token_id=loading.image_token_id(run.model, tokenizer))
    set_ready(run_dir)
    size = run.eval.batch_size
    asked = _questions(run, size)
    encoded = [generator.encode(sample) for sample in asked]

    def answer(number: int) -> None:
        for first in range(0, number, number if number == size else 1):
            part = slice(first, first + (number if number == size else 1))
            generator.answer(asked[part], encoded[part], NEW_TOKENS)

    few = min(4, size)
    works: dict[str, tuple[int, Callable[[], Any]]] = {
        "generation, 1 at a time": (few, lambda: answer(few)),
        f"generation, {size} at a time": (size, lambda: answer(size)),
        "scoring": (size, lambda: probe.mean_scores(lvlm, question_batches(generator, asked, batch_size=size))),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(1 + run.bench.steps):  # in turn, so that a machine's moods meet all alike
        for name, (number, work) in works.items():
            began = time.perf_counter()
            work()
            if device().type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - began) / number)
    told = {name: {"seconds": statistics.median(times[1:]), "all": times[1:]} for name, times in seconds.items()}
    write_json(run_dir / "inference.json", {"works": told, "peak_memory_gb": peak_memory_gb()})


def _questions(run: RunConfig, number: int) -> list[Sample]:
    folder = Path(run.instructions.image_folder or "")
    rows = json.loads(Path(run.instructions.path or "").read_text())[:number]
    assert len(rows) == number, "as many samples as a batch holds were made"
    found = []
    for row in rows:
        prompt = row["conversations"][0]["value"].replace("<image>\n", "")
        found.append(Sample(prompt, folder / row["image"], Answer(row["id"], "", ("red",))))
    return found
