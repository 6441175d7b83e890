"""The stage `prune`: remove layers from a tuned LVLM, measure what that saves, save the smaller LVLM."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from vrx.config.errors import UserError
from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.data.batch import collate
from vrx.evaluation import benchmarks
from vrx.evaluation.generation import Generator
from vrx.evaluation.run_benchmarks import run_benchmarks
from vrx.jobs.prune import result_file
from vrx.launch.devices import device, init_process_group
from vrx.launch.logging import is_main, log
from vrx.launch.ranks import barrier, set_ready
from vrx.models.architectures import Architecture
from vrx.models.lvlm import forward_inputs
from vrx.models.native import load_folder
from vrx.models.native_facts import architecture_of
from vrx.models.plain_processor import plain_processor
from vrx.models.surgery import prune_layers, save_pruned
from vrx.runs.files import write_json
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import LayerSurgery, read_surgery

NUM_ROUNDS, NUM_NEW_TOKENS = 5, 32
MAX_DIFFERENCE = 1e-5  # of logits of the pruned LVLM in memory and as saved, on one question


def prune(run: RunConfig, run_dir: Path) -> None:
    """Write the prediction files, `prune.json` and, if `prune.save`, the plain checkpoint `pruned/`.

    `prune.json` holds parameters, GiB of weights and tokens per second before and after.
    """
    init_process_group()
    surgery = read_surgery(run_dir)
    generator = Generator.load(run, surgery.source, is_altered=False)
    original = generator.lvlm
    pruned = copy_with_shared_tensors(original)
    row = None if run.model.is_assembled else architecture_of(run.model)
    prune_layers(pruned, surgery.pruned, row)
    set_ready(run_dir)
    if is_main():
        speeds = tokens_per_second(generator, {"before": original, "after": pruned}, run)
        if required(run.prune).save:
            description = _model_card(run, surgery)
            verify = _verification(generator, pruned, run, row)
            save_pruned(pruned, _processor(generator, pruned, run), RunDir(run_dir).pruned, description, verify=verify)
        result = {
            "parameters": {"before": original.num_parameters(), "after": pruned.num_parameters()},
            "weights_gb": {"before": _gigabytes(original), "after": _gigabytes(pruned)},
            "tokens_per_second": speeds,
        }
        write_json(result_file(run_dir), result)
        log(f"{speeds['before']:.1f} -> {speeds['after']:.1f} tokens/s")
    generator.lvlm = pruned
    del original  # frees the removed layers
    barrier()
    run_benchmarks(generator, run, run_dir)


def _verification(
    generator: Generator, pruned: PreTrainedModel, run: RunConfig, row: Architecture | None
) -> Callable[[Path], None]:
    """A check that a saved checkpoint computes what the pruned LVLM does, bit for bit; none for a LLaVA model."""

    def verify(folder: Path) -> None:
        if row is None:
            return
        saved: Any = load_folder(folder, row, dtype=pruned.dtype, config=run.model)
        saved.to(device())
        name, config = next(iter(run.benchmark.items()))
        sample = generator.encode(benchmarks.samples(name, config, limit=1)[0]).row
        inputs = forward_inputs(pruned, collate([sample], pad_token_id=generator.pad_token_id))
        with torch.inference_mode():
            difference = (saved(**inputs).logits - pruned(**inputs).logits).abs().max().item()
        if not difference <= MAX_DIFFERENCE:  # NaN is none either
            raise UserError(
                f"{folder}: computes other logits than what was saved, by {difference:.2g}; kept for a look"
            )

    return verify


def _processor(generator: Generator, pruned: PreTrainedModel, run: RunConfig) -> Any:
    """What prepares prompts and images for the saved checkpoint."""
    if not run.model.is_assembled:
        return generator.processor
    config: Any = pruned.config
    return plain_processor(run.model, generator.tokenizer, config)


def _model_card(run: RunConfig, surgery: LayerSurgery) -> str:
    """The text of the checkpoint's model card."""
    layers = ", ".join(map(str, surgery.pruned)) or "none"
    model = run.model
    parts = f"Backbone: {model.backbone}, vision tower: {model.vision_tower}, " if model.is_assembled else ""
    return (
        f"{run.model.name} without decoder layers {layers} (counted from 0) of the {run.model.num_layers} in "
        f"`{surgery.source.name}`. {parts}"
        f"conversation template: {run.model.template}. Scores: `record.json` in the folder above."
    )


def copy_with_shared_tensors(lvlm: PreTrainedModel) -> PreTrainedModel:
    """A second LVLM with modules of its own and the same tensors: removing its layers leaves the first one as it is."""
    tensors = [*lvlm.parameters(), *lvlm.buffers()]
    return copy.deepcopy(lvlm, {id(tensor): tensor for tensor in tensors})


def tokens_per_second(generator: Generator, lvlms: dict[str, PreTrainedModel], run: RunConfig) -> dict[str, float]:
    """Median generation speed of each LVLM by name, new tokens of a whole batch per second.

    The LVLMs alternate, so that other load on the machine affects all of them. Each round answers one batch of the
    first benchmark's questions with exactly `NUM_NEW_TOKENS` tokens each.
    """
    name, config = next(iter(run.benchmark.items()))
    samples = benchmarks.samples(name, config, limit=run.eval.batch_size)
    batch = [generator.encode(sample) for sample in samples]
    seconds: dict[str, list[float]] = {label: [] for label in lvlms}
    for _ in range(1 + NUM_ROUNDS):  # the first round warms up
        for label, generator.lvlm in lvlms.items():
            generator.lvlm.generation_config.min_new_tokens = NUM_NEW_TOKENS
            start = time.perf_counter()
            generator.answer(batch, NUM_NEW_TOKENS)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[label].append(time.perf_counter() - start)
            generator.lvlm.generation_config.min_new_tokens = None
    return {label: len(batch) * NUM_NEW_TOKENS / statistics.median(times[1:]) for label, times in seconds.items()}


def _gigabytes(lvlm: PreTrainedModel) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in lvlm.parameters()) / 2**30
