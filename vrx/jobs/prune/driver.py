"""`vrx job=prune`: a tuned LVLM without its least important layers (section 6; Figure 1, right; Figure 4)."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.job_options import required
from vrx.config.schema import JobConfig, RunConfig
from vrx.evaluation import evaluate_run
from vrx.evaluation.dataset_cache import NotConverted
from vrx.jobs import source_run
from vrx.jobs.prune import result_file
from vrx.jobs.source_run import SourceRun
from vrx.launch.logging import log
from vrx.launch.workers import launch
from vrx.report.run_summary import format_run_summary
from vrx.report.wandb_run import following
from vrx.runs import files, surgery_manifest
from vrx.runs.identity import base_identity
from vrx.runs.importance_files import read_scores, scores_file
from vrx.runs.record import PrunedInfo, Record, read_record
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir
from vrx.runs.status import Check, Gap, RunStatus, run_status
from vrx.runs.typed_json import from_json


def prune(run: RunConfig) -> None:
    """Drop layers, save a checkpoint that needs no code of ours, measure its speed and its scores, record.

    Which angular distance ranks the layers is not said in section 6. Where only a region was tuned, the distance
    between the weights of LVLM and backbone (appendix A) is 0 for every layer outside it and ranks nothing; the one
    between the inputs of consecutive layers (section 4.1; Gromov et al. 2024, whom section 6 names) ranks them all. The
    default is therefore `angular_distance_inputs`, scored on the very LVLM that is pruned. The scores of another LVLM,
    such as weight distances of the one with all layers tuned, are `prune.scores=<file>`.
    """
    evaluate_run.make_world(run)
    asked = evaluate_run.check_benchmarks(run)
    origin = source_run.finished_source(run)
    run = source_run.with_source_settings(origin, run)
    if _needs_scores(run) and not _scores_path(run, origin).is_file() and required(run.prune).scores is None:
        source_run.run_job_first(_scoring(run, origin), _scores_path(run, origin).parent)
    layers = chosen(run, origin)
    run_dir, identity, one = _place(run, origin, layers)
    with source_run.lock_available([run_dir]):
        status = run_status(run_dir, _checks(one, run_dir, asked))
        log(f"{run_dir.name}: {status.reason}" + ("; nothing to do" if status.is_done else ""))
        ways = sorted({*_ways(run_dir), *_ways_to(layers, run, origin)})
        if status.is_done:
            record = read_record(RunDir(run_dir).record)
            assert record.pruned is not None
            if record.pruned.by != ways:  # the same layers by another criterion
                record.pruned.by = ways
                record.write(RunDir(run_dir).record)
        else:
            with following(one, run_dir, files.digest(identity)[:8]) as wandb_run:
                surgery_manifest.write_surgery(
                    run_dir, surgery_manifest.LayerSurgery(origin.run_dir or run_dir, pruned=layers)
                )
                write_config(run_dir, one)
                if _pruning_gap(one, run_dir) is not None:
                    launch("prune", run_dir, one.runtime)
                scores = evaluate_run.measure(one, run_dir, asked)
                pruned = from_json(PrunedInfo, {**files.read_json(result_file(run_dir)), "by": ways})
                record = evaluate_run.write_record(
                    run_dir, one.model, identity, list(origin.layers), scores, pruned=pruned
                )
                wandb_run.finish(record)
    _show(run_dir, record)


def chosen(run: RunConfig, origin: SourceRun) -> tuple[int, ...]:
    """The layers to drop, ascending: an explicit list, or those with the lowest scores among the candidates."""
    if not _needs_scores(run):
        return tuple(sorted(required(run.prune).layers or ()))
    number, depth = required(run.prune).num_layers, run.model.num_layers
    outside = [layer for layer in range(depth) if layer not in origin.layers]
    candidates = outside if _is_outside(run, origin) else list(range(depth))
    if number > len(candidates):
        raise UserError(
            f"prune.num_layers={number}: only {len(candidates)} of the {depth} layers lie outside the region of "
            f"{origin.name}; valid are 0 to {len(candidates)}, or prune.outside_region=false"
        )
    path, formula = _scores_path(run, origin), required(run.prune).score
    found = read_scores(path, model=base_identity(run), num_layers=depth)
    if formula not in found:
        raise UserError(f"prune.score={formula}: {path} has {', '.join(found)}")
    scores = found[formula]
    order = sorted(candidates, key=lambda layer: (scores[layer], layer))
    if number < len(order) and scores[order[number - 1]] == scores[order[number]]:
        alike = sum(scores[layer] == scores[order[number]] for layer in candidates)
        raise UserError(
            f"prune.score={formula}: {alike} of the {len(candidates)} layers have {scores[order[number]]:g} and no "
            "order; valid is a formula of layer inputs, or prune.scores=<file of the LVLM with all layers tuned>"
        )
    return tuple(sorted(order[:number]))


def _needs_scores(run: RunConfig) -> bool:
    return required(run.prune).layers is None and required(run.prune).num_layers > 0


def _is_outside(run: RunConfig, origin: SourceRun) -> bool:
    if (outside := required(run.prune).outside_region) is not None:
        return outside
    return 0 < len(origin.layers) < run.model.num_layers


def _scores_path(run: RunConfig, origin: SourceRun) -> Path:
    scores = required(run.prune).scores
    return Path(scores) if scores else scores_file(run, origin.name)


def _scoring(run: RunConfig, origin: SourceRun) -> RunConfig:
    """The run that scores the very LVLM that is pruned."""
    target = dataclasses.replace(required(run.score), base_model=origin.run_dir is None)
    return dataclasses.replace(run, job=JobConfig("score", run=run.job.run), score=target)


def _way(run: RunConfig, origin: SourceRun) -> str:
    """How the layers are chosen, for the record; the run's identity is the layers themselves."""
    if not _needs_scores(run):
        return "a list"
    told = required(run.prune).score + (f" of {required(run.prune).scores}" if required(run.prune).scores else "")
    return told + (" outside the region" if _is_outside(run, origin) else " anywhere")


def _ways_to(layers: tuple[int, ...], run: RunConfig, origin: SourceRun) -> list[str]:
    """The ways that come to these layers: as asked; by the same scores outside the region or anywhere, too, since what
    two runs of a sweep come to is made once."""
    if not layers or not _needs_scores(run):
        return [_way(run, origin)] if layers else []
    found = []
    for outside in (True, False):
        other = dataclasses.replace(run, prune=dataclasses.replace(required(run.prune), outside_region=outside))
        with suppress(ValueError):  # too few layers lie outside, or no order among them
            if chosen(other, origin) == layers:
                found.append(_way(other, origin))
    return found


def _ways(run_dir: Path) -> list[str]:
    """By which ways earlier commands came to these layers."""
    with suppress(ValueError, OSError):  # no record yet, or an unreadable one
        pruned = read_record(RunDir(run_dir).record).pruned
        return pruned.by if pruned else []
    return []


def _place(run: RunConfig, origin: SourceRun, layers: tuple[int, ...]) -> tuple[Path, dict[str, Any], RunConfig]:
    """Directory and identity of the pruning, and its configuration, which lists the layers."""
    pruning = dataclasses.replace(required(run.prune), num_layers=len(layers), layers=list(layers))
    one = dataclasses.replace(run, prune=pruning)
    return (*source_run.altered_run(one, origin, "pruned", layers), one)


def _pruning_gap(run: RunConfig, run_dir: Path) -> Gap | None:
    """What the pruning itself lacks: its measurements or, where it is to be saved, the checkpoint."""
    if not result_file(run_dir).is_file():
        return Gap("not pruned")
    return None if RunDir(run_dir).pruned.is_dir() or not required(run.prune).save else Gap("no pruned checkpoint")


def _checks(run: RunConfig, run_dir: Path, samples: evaluate_run.BenchmarkSamples) -> list[Check]:
    return [lambda: _pruning_gap(run, run_dir), lambda: evaluate_run.evaluation_gap(run, run_dir, samples)]


def progress(run: RunConfig) -> RunStatus:
    """How far this run is; starts nothing, makes nothing and downloads nothing."""
    origin = source_run.find_source_if_data_exist(run)
    if origin is None:
        return RunStatus("to do", "not tuned yet")
    run = source_run.with_source_settings(origin, run)
    if _needs_scores(run) and not _scores_path(run, origin).is_file():
        return RunStatus("to do", "no importance scores")
    run_dir, _, one = _place(run, origin, chosen(run, origin))
    try:
        samples = evaluate_run.check_benchmarks(run, read_only=True)
    except NotConverted as error:
        return RunStatus("to do", str(error), run_dir)
    return run_status(run_dir, _checks(one, run_dir, samples))


def _show(run_dir: Path, record: Record) -> None:
    pruned = record.pruned
    assert pruned and pruned.parameters and pruned.tokens_per_second
    print(format_run_summary(record, None))
    print(
        f"  pruned: layers {', '.join(map(str, record.pruned_layers or ())) or 'none'}; parameters "
        f"{pruned.parameters.before:,} -> {pruned.parameters.after:,}; "
        f"{pruned.tokens_per_second.before:.1f} -> {pruned.tokens_per_second.after:.1f} tokens/s"
    )
    print(f"record: {RunDir(run_dir).record}")
