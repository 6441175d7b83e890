"""`vrx prune`: a tuned LVLM without its least important layers (section 6; Figure 1, right; Figure 4)."""

from __future__ import annotations

import dataclasses
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.job_options import required
from vrx.config.schema import JobConfig, RunConfig
from vrx.evaluation import calibration, evaluate_run
from vrx.evaluation.dataset_cache import NotConverted
from vrx.evaluation.evaluate_run import BenchmarkSamples
from vrx.jobs import source_run
from vrx.jobs.prune import result_file
from vrx.jobs.source_run import SourceRun
from vrx.launch.logging import log
from vrx.launch.workers import launch
from vrx.report.run_summary import format_run_summary
from vrx.report.wandb_run import following
from vrx.runs import files
from vrx.runs.identity import Identity
from vrx.runs.importance_files import read_formula, scores_file
from vrx.runs.record import LayerScores, PrunedInfo, Record, read_record
from vrx.runs.results import is_copy
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir
from vrx.runs.status import Check, Gap, RunStatus, run_status
from vrx.runs.surgery_manifest import LayerSurgery, write_surgery
from vrx.runs.typed_json import from_json


@dataclass(frozen=True)
class Pruning:
    """The pruned layers, the directory, the identity, the configuration, which lists the layers, and their scores."""

    layers: tuple[int, ...]
    run_dir: Path
    identity: Identity
    run: RunConfig
    scores: LayerScores | None


def prune(run: RunConfig) -> None:
    """Drop layers, save a checkpoint that needs no code of ours, measure its speed and its scores, record.

    Which angular distance ranks the layers is not said in section 6. Where only a region was tuned, the distance
    between the weights of LVLM and backbone (appendix A) is 0 for every layer outside it and ranks nothing; the one
    between the inputs of consecutive layers (section 4.1; Gromov et al. 2024, whom section 6 names) ranks them all. The
    default is therefore `angular_distance_inputs`, scored on the very LVLM that is pruned. The scores of another LVLM,
    such as weight distances of the one with all layers tuned, are `prune.scores=<file>`.
    """
    evaluate_run.make_world(run)
    samples = evaluate_run.check_benchmarks(run)
    if _needs_scores(run) and required(run.prune).scores is None and source_run.find_source(run) is None:
        calibration.draw_samples(run)  # what scoring would refuse after the fine-tune is refused before it
    source = source_run.finished_source(run)
    run = source_run.with_source_settings(source, run)
    if _needs_scores(run) and not _scores_path(run, source).is_file() and required(run.prune).scores is None:
        source_run.run_job_first(_scoring_job(run, source), _scores_path(run, source).parent)
    pruning = _plan_pruning(run, source)
    if is_copy(pruning.run_dir) and run_status(pruning.run_dir, _checks(pruning, samples)).is_done:
        _show(pruning.run_dir, read_record(RunDir(pruning.run_dir).record))
        return
    with source_run.lock_available([pruning.run_dir]):
        status = run_status(pruning.run_dir, _checks(pruning, samples))
        log(f"{pruning.run_dir.name}: {status.reason}" + ("; nothing to do" if status.is_done else ""))
        criteria = sorted({*_recorded_criteria(pruning.run_dir), *_equivalent_criteria(pruning, run, source)})
        record = _with_criteria(pruning, criteria) if status.is_done else _complete(pruning, source, samples, criteria)
    _show(pruning.run_dir, record)


def _complete(pruning: Pruning, source: SourceRun, samples: BenchmarkSamples, criteria: list[str]) -> Record:
    """Prune, measure and record; the lock of the directory is held."""
    run, run_dir, layers = pruning.run, pruning.run_dir, list(source.layers)
    with following(run, run_dir, files.digest(pruning.identity)[:8], layers=layers) as wandb_run:
        write_surgery(run_dir, LayerSurgery(source.run_dir or run_dir, pruned=pruning.layers))
        write_config(run_dir, run)
        if _pruning_gap(pruning) is not None:
            launch("prune", run_dir, run.runtime)
        scores = evaluate_run.measure(run, run_dir, samples)
        pruned = from_json(PrunedInfo, {**files.read_json(result_file(run_dir)), "by": criteria})
        record = evaluate_run.write_record(
            run_dir, run.model, pruning.identity, layers, scores, pruned=pruned, layer_scores=pruning.scores
        )
        wandb_run.finish(record)
    return record


def _with_criteria(pruning: Pruning, criteria: list[str]) -> Record:
    """The record of a finished pruning, rewritten if a further criterion chooses the same layers."""
    record = read_record(RunDir(pruning.run_dir).record)
    assert record.pruned is not None
    if record.pruned.by != criteria:
        record.pruned.by = criteria
        record.layer_scores = record.layer_scores or pruning.scores
        record.write(RunDir(pruning.run_dir).record)
    return record


def layers_to_prune(run: RunConfig, source: SourceRun, ranking: LayerScores | None) -> tuple[int, ...]:
    """The layers to prune, ascending: an explicit list, or those with the lowest scores among the candidates.

    ranking: the scores, as `read_ranking` gives them.
    """
    if ranking is None:
        return tuple(sorted(required(run.prune).layers or ()))
    number, depth = required(run.prune).num_layers, run.model.num_layers
    outside = [layer for layer in range(depth) if layer not in source.layers]
    candidates = outside if _is_outside(run, source) else list(range(depth))
    if number > len(candidates):
        raise UserError(
            f"prune.num_layers={number}: only {len(candidates)} of the {depth} layers lie outside the region of "
            f"{source.name}; valid are 0 to {len(candidates)}, or prune.outside_region=false"
        )
    scores = [math.inf if score is None else score for score in ranking.values]  # without one, it is not cut
    order = sorted(candidates, key=lambda layer: (scores[layer], layer))
    if number < len(order) and scores[order[number - 1]] == scores[order[number]]:
        num_equal = sum(scores[layer] == scores[order[number]] for layer in candidates)
        raise UserError(
            f"prune.score={ranking.formula}: {num_equal} of the {len(candidates)} layers have the same score, "
            f"{scores[order[number]]:g}, and no order; valid is a formula of layer inputs, or "
            "prune.scores=<file of the LVLM with all layers tuned>"
        )
    return tuple(sorted(order[:number]))


def _needs_scores(run: RunConfig) -> bool:
    return required(run.prune).layers is None and required(run.prune).num_layers > 0


def _is_outside(run: RunConfig, source: SourceRun) -> bool:
    if (outside := required(run.prune).outside_region) is not None:
        return outside
    return 0 < len(source.layers) < run.model.num_layers


def read_ranking(run: RunConfig, source: SourceRun) -> LayerScores | None:
    """The scores that rank the layers of a source run; None where the layers to prune are a list, or none."""
    if not _needs_scores(run):
        return None
    return read_formula(_scores_path(run, source), required(run.prune).score, run, key="prune.score")


def _scores_path(run: RunConfig, source: SourceRun) -> Path:
    scores = required(run.prune).scores
    return Path(scores) if scores else scores_file(run, source.name)


def _scoring_job(run: RunConfig, source: SourceRun) -> RunConfig:
    """The job that scores the LVLM that is pruned."""
    options = dataclasses.replace(required(run.score), base_model=source.run_dir is None)
    return dataclasses.replace(run, job=JobConfig("score", run=run.job.run), score=options)


def _criterion(run: RunConfig, source: SourceRun) -> str:
    """How the layers are chosen, for the record; the run's identity is the layers themselves."""
    if not _needs_scores(run):
        return "a list"
    options = required(run.prune)
    formula = f"{options.score} of {options.scores}" if options.scores else options.score
    return formula + (" outside the region" if _is_outside(run, source) else " anywhere")


def _equivalent_criteria(pruning: Pruning, run: RunConfig, source: SourceRun) -> list[str]:
    """The criteria that choose these layers: the configured one, and the same scores outside the region or anywhere.

    Runs of a sweep that choose the same layers share one directory.
    """
    if not pruning.layers or pruning.scores is None:
        return [_criterion(run, source)] if pruning.layers else []
    criteria = []
    for outside in (True, False):
        other = dataclasses.replace(run, prune=dataclasses.replace(required(run.prune), outside_region=outside))
        with suppress(UserError):  # too few layers lie outside, or they have no order
            if layers_to_prune(other, source, pruning.scores) == pruning.layers:
                criteria.append(_criterion(other, source))
    return criteria


def _recorded_criteria(run_dir: Path) -> list[str]:
    """The criteria by which earlier commands chose these layers."""
    with suppress(ValueError, OSError):  # no record yet, or an unreadable one
        pruned = read_record(RunDir(run_dir).record).pruned
        return pruned.by if pruned else []
    return []


def _plan_pruning(run: RunConfig, source: SourceRun) -> Pruning:
    scores = read_ranking(run, source)
    layers = layers_to_prune(run, source, scores)
    options = dataclasses.replace(required(run.prune), num_layers=len(layers), layers=list(layers))
    of_layers = dataclasses.replace(run, prune=options)
    run_dir, identity = source_run.locate_altered_run(of_layers, source, "pruned", layers)
    return Pruning(layers, run_dir, identity, of_layers, scores)


def _pruning_gap(pruning: Pruning) -> Gap | None:
    """What the pruning itself lacks: its measurements or, where it is to be saved, the checkpoint."""
    if is_copy(pruning.run_dir):
        return None
    if not result_file(pruning.run_dir).is_file():
        return Gap("not pruned")
    has_checkpoint = RunDir(pruning.run_dir).pruned.is_dir()
    return None if has_checkpoint or not required(pruning.run.prune).save else Gap("no pruned checkpoint")


def _checks(pruning: Pruning, samples: BenchmarkSamples) -> list[Check]:
    run, run_dir = pruning.run, pruning.run_dir
    return [lambda: _pruning_gap(pruning), lambda: evaluate_run.evaluation_gap(run, run_dir, samples)]


def progress(run: RunConfig) -> RunStatus:
    """How far this run is; starts nothing, makes nothing and downloads nothing."""
    source = source_run.find_source_if_data_exist(run)
    if source is None:
        return RunStatus("to do", "not tuned yet")
    run = source_run.with_source_settings(source, run)
    if _needs_scores(run) and not _scores_path(run, source).is_file():
        return RunStatus("to do", "no importance scores")
    pruning = _plan_pruning(run, source)
    try:
        samples = evaluate_run.check_benchmarks(run, read_only=True)
    except NotConverted as error:
        return RunStatus("to do", str(error), pruning.run_dir)
    criterion = _criterion(run, source) if pruning.layers else None
    return run_status(pruning.run_dir, [*_checks(pruning, samples), lambda: _criterion_gap(pruning.run_dir, criterion)])


def _criterion_gap(run_dir: Path, criterion: str | None) -> Gap | None:
    """That the record of a finished pruning does not name this criterion, which chooses the same layers as another."""
    if criterion is None or is_copy(run_dir) or criterion in _recorded_criteria(run_dir):
        return None
    return Gap(f"its record does not say that {criterion} chooses these layers too")


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
