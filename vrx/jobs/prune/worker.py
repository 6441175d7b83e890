"""The stage `prune`: cut layers out of a tuned LVLM, measure what that saves, save what is left."""

from __future__ import annotations

import copy
import statistics
import time
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from vrx.config.schema import RunConfig
from vrx.evaluation import benchmarks
from vrx.evaluation.generation import Generator
from vrx.evaluation.run_benchmarks import ask_all
from vrx.jobs.prune.files import result_file
from vrx.launch.devices import dtype, init_process_group
from vrx.launch.logging import is_main, log
from vrx.launch.ranks import barrier, set_ready
from vrx.models import lora
from vrx.models.loading import image_token_id, tokenizer_of
from vrx.models.surgery import prune_layers, save_pruned
from vrx.runs.files import write_json
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import LayerSurgery, read_surgery

ROUNDS, NEW_TOKENS = 5, 32


def prune(run: RunConfig, run_dir: Path) -> None:
    """Leave `pruned/`, a plain checkpoint, `prune.json`: parameters, memory and speed before and after, and answers."""
    init_process_group()
    done = read_surgery(run_dir)
    tokenizer = tokenizer_of(run.model)
    whole = lora.load_tuned(run.model, done.source, dtype=dtype(run.train))
    generator = Generator(whole, tokenizer, run.model, image_token_id=image_token_id(run.model, tokenizer))
    cut = sharing(whole)
    prune_layers(cut, done.pruned)
    set_ready(run_dir)
    if is_main():
        speeds = tokens_per_second(generator, {"before": whole, "after": cut}, run)
        if run.prune.save:
            save_pruned(cut, tokenizer, RunDir(run_dir).pruned, _card(run, done))
        told = {
            "parameters": {"before": whole.num_parameters(), "after": cut.num_parameters()},
            "weights_gb": {"before": _gigabytes(whole), "after": _gigabytes(cut)},
            "tokens_per_second": speeds,
        }
        write_json(result_file(run_dir), told)
        log(f"{speeds['before']:.1f} -> {speeds['after']:.1f} tokens/s")
    generator.lvlm = cut
    del whole  # frees what was cut out
    barrier()
    ask_all(generator, run, run_dir)


def _card(run: RunConfig, done: LayerSurgery) -> str:
    """What the model card says of the cut."""
    layers = ", ".join(map(str, done.pruned)) or "none"
    return (
        f"{run.model.name} without the decoder layers {layers}, counted from 0 in the {run.model.num_layers} it had as "
        f"`{done.source.name}`. Backbone: {run.model.backbone}, vision tower: {run.model.vision_tower}, conversation "
        f"template: {run.model.template}. How it scores: `record.json` beside this folder."
    )


def sharing(lvlm: LlavaForConditionalGeneration) -> LlavaForConditionalGeneration:
    """A second LVLM of modules of its own and the same tensors: what is cut out of it stays in the first."""
    tensors = [*lvlm.parameters(), *lvlm.buffers()]
    return copy.deepcopy(lvlm, {id(tensor): tensor for tensor in tensors})


def tokens_per_second(
    generator: Generator, lvlms: dict[str, LlavaForConditionalGeneration], run: RunConfig
) -> dict[str, float]:
    """Medians over rounds in which the LVLMs take turns, so that what else the machine does slows all alike.

    Each round is one batch of the first benchmark's questions, answered by as many tokens whatever is said.
    """
    name, config = next(iter(run.benchmark.items()))
    samples = benchmarks.samples(name, config, limit=run.eval.batch_size)
    ids = [generator.encode(sample) for sample in samples]
    taken: dict[str, list[float]] = {which: [] for which in lvlms}
    for _ in range(1 + ROUNDS):  # the first warms up
        for which, generator.lvlm in lvlms.items():
            generator.lvlm.generation_config.min_new_tokens = NEW_TOKENS
            start = time.perf_counter()
            generator.answer(samples, ids, NEW_TOKENS)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[which].append(time.perf_counter() - start)
            generator.lvlm.generation_config.min_new_tokens = None
    return {which: len(samples) * NEW_TOKENS / statistics.median(times[1:]) for which, times in taken.items()}


def _gigabytes(lvlm: LlavaForConditionalGeneration) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in lvlm.parameters()) / 2**30
