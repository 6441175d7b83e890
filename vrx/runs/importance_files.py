"""Importance scores as files: where they lie, what they must hold, and which of them a run's selector orders by.

`scores.json` of `vrx score` says what was scored (`model`, the identity of the untouched LVLM; `scored`, the run
that tuned it, or null), on what samples (`calibration`), and under `scores` of each formula one number a decoder layer.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from vrx.config.errors import NoImportanceScores, UserError
from vrx.config.paths import below
from vrx.config.schema import DataFractionConfig, JobConfig, RunConfig, SelectorConfig
from vrx.runs.identity import base_identity, finetune_identity, legacy_identity
from vrx.runs.json_text import parse_json
from vrx.runs.record import LayerScores

VERSION = 1
UNTOUCHED = "untouched"  # in paths the name of an LVLM that was not tuned
SCORES_NAME = "scores.json"
SAMPLE_SCORES_NAME = "image_attention.json"  # beside it: the image attention of every sample


def scores_file(run: RunConfig, source: str) -> Path:
    """Where the scores of a source lie: the directory name of a finished fine-tune, or `untouched`."""
    paths = [folder / source / SCORES_NAME for folder in _folders(run)]
    return next((path for path in paths if path.is_file()), paths[0])


def _folders(run: RunConfig) -> list[Path]:
    """The folders of a model's scores: below the output root, then below the folders of results."""
    roots = (run.runtime.output_path, *run.runtime.results_paths)
    return [below(root, "score", run.model.name) for root in roots]


def read_scores(path: Path, *, model: dict[str, Any], num_layers: int) -> dict[str, list[float | None]]:
    """Formula -> score of each layer; a file of other weights, of another depth or with a bad score is refused.

    None stands for an attention score of a layer without attention.

    model: the identity of the untouched LVLM, `identity.base_identity(run)`.
    """
    return _read_valid(path, model=model, num_layers=num_layers)["scores"]


def read_formula(path: Path, formula: str, run: RunConfig, *, key: str) -> LayerScores:
    """The scores by one formula of a file that is valid for a run; `UserError` names `key` where it lacks them."""
    content = _read_valid(path, model=base_identity(run), num_layers=run.model.num_layers)
    if formula not in content["scores"]:
        raise UserError(f"{key}={formula}: {path} has {', '.join(content['scores'])}")
    return LayerScores(formula, content["scores"][formula], content.get("made_from"))


def _read_valid(path: Path, *, model: dict[str, Any], num_layers: int) -> dict[str, Any]:
    """The content of a file of scores of these weights and this depth."""
    if not path.is_file():
        raise NoImportanceScores(f"no importance scores at {path}; run: {_command(path)}")
    content = read_score_file(path)
    if content["model"]["weights"] != model["weights"]:
        name = content["model"].get("name") or content["model"]["model"].get("name")
        raise UserError(f"{path}: scores of other weights, of model={name}; run: {_command(path)}")
    for name, scores in content["scores"].items():
        if len(scores) != num_layers:
            raise UserError(f"{path}: {name} has {len(scores)} scores, the model has {num_layers} decoder layers")
        bad = [
            f"{layer} ({score})" for layer, score in enumerate(scores) if score is not None and not _is_finite(score)
        ]
        if bad:
            raise UserError(f"{path}: {name} has no finite score for the layers {', '.join(bad)}")
    return content


def _is_finite(score: Any) -> bool:
    return isinstance(score, int | float) and math.isfinite(score)


def _command(path: Path) -> str:
    """The command that makes the file, as far as its path tells: <root>/score/<model>/<source>/scores.json."""
    folders = path.absolute().parents
    if len(folders) < 4 or folders[2].name != "score":
        return "vrx score"
    source, name, root = folders[0].name, folders[1].name, folders[3]
    if source == UNTOUCHED:
        return f"vrx score score.base_model=true model={name}"
    run_dir = root / "finetune" / name / source
    return f"vrx score model={name}" + (f" job.run={run_dir}" if run_dir.is_dir() else "")


def read_score_file(path: Path) -> dict[str, Any]:
    """The content of a score file; `UserError` names a file that is none of this version."""
    try:
        content = parse_json(path.read_bytes())
        scores, model = content["scores"], content["model"]
        valid = content["version"] == VERSION and all(isinstance(values, list) for values in scores.values())
        valid = valid and bool(scores) and isinstance(model["model"], dict)
        valid = valid and {"weights"} <= model.keys() and {"scored"} <= content.keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        valid, content = False, {}
    if not valid:
        raise UserError(f"{path}: no importance scores of version {VERSION}; delete it and run vrx score again")
    return content


def all_layers(run: RunConfig) -> RunConfig:
    """The fine-tune whose scores a configuration selects by: all layers, with the same recipe, seed and share of the
    data, or with the share that `selector.scores_from_fraction` names."""
    own = run.selector.scores_from_fraction
    fraction = run.data_fraction.fraction if own is None else own
    return dataclasses.replace(
        run,
        job=JobConfig(name="finetune"),
        selector=SelectorConfig(name="all", rule="all"),
        data_fraction=DataFractionConfig(fraction=fraction),
    )


def for_selector(run: RunConfig, data_digest: str) -> LayerScores:
    """The scores that the run's selector orders the layers by: of `selector.scores`, else of the fine-tune of all
    layers that the configuration describes, on the data with this digest."""
    formula = run.selector.formula
    assert formula is not None
    path = Path(run.selector.scores) if run.selector.scores else find(run, data_digest)
    return read_formula(path, formula, run, key="selector.formula")


def find(run: RunConfig, data_digest: str) -> Path:
    """The score file of the fine-tune of all layers that the configuration describes, on the data with this digest."""
    tuning = all_layers(run)
    identity = finetune_identity(tuning, list(range(run.model.num_layers)), data_digest)
    wanted = (identity, legacy_identity(identity, run.model))
    for path in (path for folder in _folders(run) for path in sorted(folder.glob(f"*/{SCORES_NAME}"))):
        scored = read_score_file(path)["scored"]
        if isinstance(scored, dict) and scored.get("identity") in wanted:
            return path
    share = f"{100 * tuning.data_fraction.fraction:g}pct"
    pattern = scores_file(run, f"all-{run.model.num_layers}_{share}_seed{run.seed}_*")
    raise NoImportanceScores(
        f"no importance scores at {pattern} that fit; run, with all other options of this command: "
        f"vrx score selector={run.selector.name} model={run.model.name}"
    )
