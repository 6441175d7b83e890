"""The stage `score`: importance of every decoder layer of an LVLM, by every formula."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from vrx.config.schema import RunConfig
from vrx.evaluation import calibration
from vrx.evaluation.generation import Generator
from vrx.evaluation.run_benchmarks import question_batches
from vrx.jobs.score.files import inputs_file, sample_scores_file, scores_file
from vrx.launch.devices import dtype, init_process_group
from vrx.launch.logging import is_main, log, rank
from vrx.launch.ranks import barrier, set_ready, world_size
from vrx.models import from_run, probe
from vrx.models.loading import image_token_id, tokenizer_of
from vrx.models.merged_state_dict import tuned_state
from vrx.runs.files import read_json, write_json
from vrx.selectors.importance import RunningMean

HEAT = "image_attention"  # of which each sample's scores are kept, for Figure 5


def score(run: RunConfig, run_dir: Path) -> None:
    """Leave `image_attention.json`, the scores of each sample, and last `scores.json`, which tells what `inputs.json`
    does and the scores."""
    init_process_group()
    source = Path(run.job.run) if run.job.run else run_dir
    tokenizer = tokenizer_of(run.model)
    lvlm = from_run.load_from_run(run.model, source, dtype=dtype(run.train))
    generator = Generator(lvlm, tokenizer, run.model, image_token_id=image_token_id(run.model, tokenizer))
    samples = calibration.drawn(run)
    set_ready(run_dir)
    mine = range(rank(), len(samples), world_size())
    rows: list[list[float]] = []
    with tqdm(total=len(mine), desc="samples", disable=not is_main(), delay=1, leave=False) as bar:

        def see(found: dict[str, Tensor]) -> None:
            rows.extend(found[HEAT].tolist())
            bar.update(len(found[HEAT]))

        shown = question_batches(generator, [samples[place][1] for place in mine], batch_size=run.eval.batch_size)
        means = probe.mean_scores(generator.lvlm, shown, see=see)
    heat = dict(zip(mine, rows, strict=True))
    _join(means, heat)
    if is_main():
        told = read_json(inputs_file(run_dir))
        asked = [{"benchmark": name, "id": sample.answer.id} for name, sample in samples]
        kept = {"made_from": told["made_from"], "samples": asked, "scores": [row for _, row in sorted(heat.items())]}
        write_json(sample_scores_file(run_dir), kept)
        scores = {name: mean.scores() for name, mean in means.items()}
        write_json(scores_file(run_dir), {**told, "scores": {**scores, **_of_weights(run, source)}})
        log(f"{len(samples)} samples, {len(probe.OF_ACTIVATIONS)} formulas of activations scored")
    barrier()


def _join(means: dict[str, RunningMean], heat: dict[int, list[float]]) -> None:
    """Add up what the ranks have; a sum of sums is the same whoever had which samples, but for its last digits."""
    if world_size() == 1:
        return
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, ({name: (mean.total, mean.num_samples) for name, mean in means.items()}, heat))
    for name, mean in means.items():
        mean.total = torch.stack([theirs[name][0] for theirs, _ in gathered]).sum(0)
        mean.num_samples = sum(theirs[name][1] for theirs, _ in gathered)
    for _, theirs in gathered:
        heat |= theirs


def _of_weights(run: RunConfig, source: Path) -> dict[str, list[float]]:
    """Scores of a tuned LVLM's weights against its backbone's; none where nothing was tuned."""
    state = tuned_state(run.model, source)
    if state is None:
        log("not tuned: no scores of weights, which compare with the backbone")
        return {}

    def bar(layers: list[Any]) -> Iterable[Any]:
        return tqdm(layers, desc="layers", delay=1, leave=False)

    return probe.weight_scores(state, from_run.load_backbone(run.model), watch=bar)
