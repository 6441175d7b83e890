"""The stage `score`: importance of every decoder layer of an LVLM, by every formula."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from vrx.config.schema import RunConfig
from vrx.evaluation import calibration
from vrx.evaluation.generation import Generator, prompt_batches
from vrx.jobs.score import inputs_file, sample_scores_file, scores_file
from vrx.launch.devices import init_process_group
from vrx.launch.logging import is_main, log, rank
from vrx.launch.ranks import barrier, set_ready, world_size
from vrx.models import from_run, probe
from vrx.models.lvlm import layers_path
from vrx.models.merged_state_dict import tuned_state
from vrx.runs.files import read_json, write_json
from vrx.runs.layer_selection import format_layers
from vrx.selectors.importance import RunningMean

PER_SAMPLE = "image_attention"  # the formula whose scores are saved for each sample, for Figure 5


def score(run: RunConfig, run_dir: Path) -> None:
    """Write the sample scores and, last, `scores.json`: the content of `inputs.json` and the scores of all layers.

    The LVLM is that of `job.run`, else the base model. Ranks share the samples.
    """
    init_process_group()
    source = Path(run.job.run) if run.job.run else run_dir
    generator = Generator.load(run, source)
    samples = calibration.draw_samples(run)
    set_ready(run_dir)
    mine = range(rank(), len(samples), world_size())
    rows: list[list[float]] = []
    names = probe.formulas(generator.lvlm)
    with tqdm(total=len(mine), desc="samples", disable=not is_main(), delay=1, leave=False) as bar:

        def record_batch(scores: dict[str, Tensor]) -> None:
            some = next(iter(scores.values()))
            rows.extend(scores.get(PER_SAMPLE, torch.full_like(some, math.nan)).tolist())
            bar.update(len(some))

        batches = prompt_batches(
            generator,
            [samples[number][1] for number in mine],
            batch_size=run.eval.batch_size,
            num_workers=run.runtime.num_workers,
        )
        means = probe.mean_scores(generator.lvlm, batches, names=names, see=record_batch)
    sample_scores = dict(zip(mine, rows, strict=True))
    _reduce(means, sample_scores)
    if is_main():
        inputs = read_json(inputs_file(run_dir))
        without = [] if run.model.is_assembled else _without_attention(means)
        if absent := [name for name in probe.ACTIVATION_SCORES if name not in names]:
            log(f"pictures of {run.model.name} have no tokens in the text, so there is no {', '.join(absent)}")
        if without:
            log(f"layers without attention, which have no attention score: {format_layers(without)}")
        in_order = [[_without_nan(score) for score in row] for _, row in sorted(sample_scores.items())]
        ids = [{"benchmark": name, "id": sample.answer.id} for name, sample in samples]
        content = {"made_from": inputs["made_from"], "samples": ids, "scores": in_order}
        write_json(sample_scores_file(run_dir), content)
        scores = {
            name: mean.scores(without=without if name in probe.ATTENTION_SCORES else ()) for name, mean in means.items()
        }
        write_json(scores_file(run_dir), {**inputs, "scores": {**scores, **_weight_scores(run, source, generator)}})
        log(f"{len(samples)} samples scored by {len(names)} formulas of activations")
    barrier()


def _without_attention(means: dict[str, RunningMean]) -> list[int]:
    """The layers of which no sample has an attention score."""
    totals = means[PER_SAMPLE].total.tolist() if PER_SAMPLE in means else []
    return [layer for layer, total in enumerate(totals) if math.isnan(total)]


def _without_nan(score: float) -> float | None:
    return None if math.isnan(score) else score


def _reduce(means: dict[str, RunningMean], sample_scores: dict[int, list[float]]) -> None:
    """Combine the sums and sample scores of all ranks in place; how samples are shared changes last digits only."""
    if world_size() == 1:
        return
    gathered: list[Any] = [None] * world_size()
    sums = {name: (mean.total, mean.num_samples) for name, mean in means.items()}
    dist.all_gather_object(gathered, (sums, sample_scores))
    for name, mean in means.items():
        mean.total = torch.stack([rank_sums[name][0] for rank_sums, _ in gathered]).sum(0)
        mean.num_samples = sum(rank_sums[name][1] for rank_sums, _ in gathered)
    for _, rank_scores in gathered:
        sample_scores |= rank_scores


def _weight_scores(run: RunConfig, source: Path, generator: Generator) -> dict[str, list[float]]:
    """Scores of a tuned LVLM's weights against its backbone; none for a base model."""
    state = tuned_state(run.model, source)
    if state is None:
        log("base model: formulas that compare tuned weights with the backbone are left out")
        return {}

    def progress(layers: list[Any]) -> Iterable[Any]:
        return tqdm(layers, desc="layers", delay=1, leave=False)

    backbone, path = from_run.load_backbone(run.model), None if run.model.is_assembled else layers_path(generator.lvlm)
    return probe.weight_scores(state, backbone, path=path, watch=progress)
