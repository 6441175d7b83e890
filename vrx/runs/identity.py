"""Run identity: the base weights, the layers and the training settings. Names, paths and devices are no part of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vrx.config.paths import resolve_path
from vrx.config.schema import CaptionsConfig, EngineConfig, LoraConfig, ModelConfig, RunConfig, TrainConfig
from vrx.runs.content_digest import content_digests, weights_fingerprint
from vrx.runs.hub import hub_commit, split_revision

# A JSON object: `model`, `weights`, `contents`; of a fine-tune also `layers`, `data`, `lora`, `train`, `engine`, `seed`
Identity = dict[str, Any]

NAMES = ("name", "backbone", "vision_tower", "projector", "lvlm", "tokenizer")  # of a model
ASSEMBLED_FIELDS = (  # of a model of parts; one checkpoint says them by itself
    "image_token",
    "num_image_tokens",
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "image_processor",
    "image_aspect_ratio",
)
PRETRAIN = "pretrain"  # `stage` of the identity of a projector's pre-training; those of other runs have no stage
OBJECTIVES = {"word_alignment": "word_alignment 2"}  # with the number of its rule, which an older projector lacks
JOINED_PARTS = ("backbone", "vision_tower")  # what a projector joins
# Fields of every identity, at their defaults too. A field that was added later is left out at its default, so that the
# identities of the runs before it stay.
FIRST_FIELDS = {
    "model": "num_layers template image_token num_image_tokens vision_feature_layer vision_feature_select_strategy "
    "image_processor image_aspect_ratio max_length",
    "lora": "r alpha dropout",
    "train": "epochs max_steps global_batch_size micro_batch_size lr projector_lr weight_decay warmup_ratio "
    "max_grad_norm group_by_modality loss_average gradient_checkpointing dtype",
    "engine": "name zero_stage packed supervised_head skip_vision_tower fused_lora compile",
}


def base_identity(run: RunConfig) -> Identity:
    """The identity of an LVLM that was not tuned."""
    model = {key: value for key, value in _settings("model", run.model).items() if key not in NAMES}
    return {"model": model, "weights": weights_fingerprint(run.model), "contents": content_digests(run.model)}


def pretrain_identity(run: RunConfig, data_digest: str) -> Identity:
    """The identity of a projector's pre-training: between which parts, on which captions, how."""
    model = {key: value for key, value in _settings("model", run.model).items() if key not in NAMES}
    objective = run.captions.objective
    return {
        "stage": PRETRAIN,
        "model": model,
        "weights": weights_fingerprint(run.model, JOINED_PARTS),
        "contents": content_digests(run.model, JOINED_PARTS),
        "data": {
            "sha256": data_digest,
            "fraction": run.data_fraction.fraction,
            "on_bad_image": run.captions.on_bad_image,
            "template": run.captions.template,
            **({} if objective == CaptionsConfig.objective else {"objective": OBJECTIVES[objective]}),
        },
        "train": _settings("train", run.train),
        "engine": _settings("engine", run.engine),
        "seed": run.seed,
    }


def finetune_identity(run: RunConfig, layers: list[int], data_digest: str) -> Identity:
    """The identity of a fine-tune: what is trained on what, not how it is named, where it runs or what it is asked."""
    return {
        **base_identity(run),
        "layers": layers,
        "data": {
            "sha256": data_digest,
            "fraction": run.data_fraction.fraction,
            "on_bad_image": run.instructions.on_bad_image,
        },
        "lora": _settings("lora", run.lora),
        "train": _settings("train", run.train),
        "engine": _settings("engine", run.engine),
        "seed": run.seed,
    }


def hub_commits(config: ModelConfig) -> dict[str, str]:
    """The commit of each part of a model that comes from the hub, where it is known."""
    commits = {}
    for part in NAMES[1:]:
        name = getattr(config, part)
        if name and not Path(resolve_path(name)).is_dir():
            commits[part] = hub_commit(*split_revision(name))
    return {part: commit for part, commit in commits.items() if commit is not None}


def migrate_identity(identity: Identity) -> Identity:
    """An identity of the first version without the names and paths of its model."""
    model = {key: value for key, value in identity["model"].items() if key not in NAMES}
    return {**_with_engine_key(identity, "skip_tower", "skip_vision_tower"), "model": model}


def legacy_identity(identity: Identity, model: ModelConfig) -> Identity:
    """The identity as the first version had it: with names and paths, hub ids as fingerprints, no contents.

    Directories of runs that the first version made end in the hash of this one.
    """
    names = {key: getattr(model, key) for key in NAMES if getattr(model, key) is not None}
    weights = dict(identity["weights"])
    for part in weights:
        if not Path(resolve_path(names[part])).is_dir():
            weights[part] = names[part]
    legacy = {key: value for key, value in identity.items() if key != "contents"}
    legacy |= {"model": {**identity["model"], **names}, "weights": weights}
    return _with_engine_key(legacy, "skip_vision_tower", "skip_tower")


def _settings(part: str, config: ModelConfig | LoraConfig | TrainConfig | EngineConfig) -> dict[str, Any]:
    """The fields of a part of the configuration: neither null ones nor later ones at their default."""
    first = FIRST_FIELDS[part].split() + list(NAMES)
    defaults = {field.name: _default(field) for field in dataclasses.fields(config)}
    values: dict[str, Any] = dataclasses.asdict(config)
    if isinstance(config, ModelConfig) and not config.is_assembled:
        values = {key: value for key, value in values.items() if key not in ASSEMBLED_FIELDS}
    return {
        key: _without_nulls(value)
        for key, value in values.items()
        if value is not None and (key in first or value != defaults[key])
    }


def _without_nulls(value: Any) -> Any:
    return {key: part for key, part in value.items() if part is not None} if isinstance(value, dict) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    """The default of a field in the form that `dataclasses.asdict` gives values."""
    if field.default_factory is dataclasses.MISSING:
        return field.default
    value = field.default_factory()
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _with_engine_key(identity: Identity, old: str, new: str) -> Identity:
    if "engine" not in identity:
        return identity
    return {**identity, "engine": {new if key == old else key: value for key, value in identity["engine"].items()}}
