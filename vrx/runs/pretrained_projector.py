"""`model.projector=pretrained`: the projector of a finished `vrx pretrain` between the same tower and backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig, RunConfig
from vrx.runs.content_digest import content_digests, weights_fingerprint
from vrx.runs.identity import JOINED_PARTS, PRETRAIN, Identity
from vrx.runs.record import read_record
from vrx.runs.run_dir import RunDir

PRETRAINED = "pretrained"
JOBS_WITHOUT_LVLM = ("pretrain", "report", "score_answers")  # load none that has a projector
FEATURES = ("num_image_tokens", "vision_feature_layer", "vision_feature_select_strategy", "image_processor")


def with_pretrained_projector(run: RunConfig) -> RunConfig:
    """The run with a folder in place of `model.projector=pretrained`; unchanged for any other projector.

    `UserError` where no finished pre-training fits or several do, unless the job works on finished runs: these bring
    their own projector, and the command's only stands in for one that was moved. What it was trained on, how, and the
    conversation template make no difference to whether it fits.
    """
    if run.model.projector != PRETRAINED or not _loads_projector(run):
        return run
    if run.model.lvlm is not None:  # which has a projector
        return _with_projector(run, run.model.lvlm)
    folders = list(_matching_projectors(run))
    if len(folders) != 1 and _has_finished_runs(run):
        return run
    if not folders:
        raise UserError(
            f"model.projector={PRETRAINED}: no finished pre-training between this tower and backbone below "
            f"{run.runtime.output_path / PRETRAIN}; run: vrx pretrain model={run.model.name}"
        )
    if len(folders) > 1:
        raise UserError(
            f"model.projector={PRETRAINED}: several fit; choose one by model.projector=<folder>: "
            f"{', '.join(map(str, folders))}"
        )
    return _with_projector(run, str(folders[0]))


def _loads_projector(run: RunConfig) -> bool:
    """Whether the job loads the projector of the model; bench makes a random one where the model has no world."""
    return run.world is not None if run.job.name == "bench" else run.job.name not in JOBS_WITHOUT_LVLM


def _has_finished_runs(run: RunConfig) -> bool:
    """Whether the job takes finished runs, whose projectors are recorded, in place of the configured model."""
    named = run.compare.runs if run.job.name == "compare" and run.compare else []
    return run.job.run is not None or run.job.name == "demo" or bool(named)


def _with_projector(run: RunConfig, projector: str) -> RunConfig:
    return dataclasses.replace(run, model=dataclasses.replace(run.model, projector=projector))


def _matching_projectors(run: RunConfig) -> Iterator[Path]:
    """The folders of the finished projectors that fit, by path."""
    wanted: dict[str, Any] | None = None
    for path in sorted((run.runtime.output_path / PRETRAIN).glob("*/*/record.json")):
        directory = RunDir(path.parent)
        if not directory.projector.is_dir() or not directory.train_summary.is_file():
            continue
        with suppress(ValueError, OSError):
            identity = read_record(path).identity
            wanted = wanted or _joint(_joint_identity(run.model))
            if _joint(identity) == wanted:
                yield directory.projector


def _joint_identity(model: ModelConfig) -> Identity:
    return {
        "model": dataclasses.asdict(model),
        "weights": weights_fingerprint(model, JOINED_PARTS),
        "contents": content_digests(model, JOINED_PARTS),
    }


def _joint(identity: Identity) -> dict[str, Any]:
    """The part of an identity that decides whether a projector fits."""
    return {
        "features": {key: identity["model"].get(key) for key in FEATURES},
        **{key: {part: identity[key].get(part) for part in JOINED_PARTS} for key in ("weights", "contents")},
    }
