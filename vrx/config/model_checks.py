"""Whether the part `model` of a configuration names a model that can be loaded, before any file is read."""

from __future__ import annotations

import importlib

from vrx.config.bounds import among
from vrx.config.errors import UserError
from vrx.config.model_config import LLAVA
from vrx.config.resolve import resolve_name
from vrx.config.schema import RunConfig

TEMPLATES = "vrx.data.instructions.chat_templates"
ASSEMBLED_JOBS = ("pretrain", "bench")  # that assemble a model from parts
VALID_PARTS = {
    "backbone": "a hub id or a folder",
    "vision_tower": "a hub id or a folder",
    "projector": "a hub id, a folder, or pretrained",
    "image_token": "a token that never occurs in text",
}
REMOTE_CODE = {  # model_type or name of what transformers has no class for
    "internvl_chat": "valid is the -HF checkpoint with architecture internvl",
    "llava_onevision1_5": "valid is llava_onevision, or qwen3_vl",
    "llavaonevision1_5": "valid is llava_onevision, or qwen3_vl",
    "minicpmv": "transformers has no such class",
    "molmo": "transformers has no such class",
    "phi3_v": "transformers has no such class",
    "ovis": "transformers has no such class",
    "deepseek_vl_v2": "transformers has no such class",
}


def check_model(run: RunConfig) -> None:
    """Refuse a model of missing parts, and one that no class or row stands for: `UserError` with the key."""
    model = run.model
    if not model.is_assembled:
        _native_model(run)
        return
    for key in ("backbone", "vision_tower", "projector", "image_token"):
        if not getattr(model, key) and not (run.job.name == "pretrain" and key == "projector"):
            raise UserError(f"model.{key}: missing; valid is {VALID_PARTS[key]}")
    if not run.train.connector:
        raise UserError(
            f"train.connector=false: valid with another architecture than {LLAVA}, whose projector is tuned"
        )
    if model.revision is not None:
        raise UserError(
            f"model.revision={model.revision}: valid with model.lvlm; a part's revision is part of its hub id, "
            f"model.backbone=owner/name@{model.revision}"
        )
    importlib.import_module(TEMPLATES).get_template(model.template)  # as names of code are looked up, see resolve.py
    among("model.image_processor", model.image_processor, ("clip", "siglip", "dinov2"))
    among("model.vision_feature_select_strategy", model.vision_feature_select_strategy, ("default", "full"))
    among("model.image_aspect_ratio", model.image_aspect_ratio, ("pad", "square"))
    if run.world is not None:
        resolve_name("world", run.world.name, key="world.name")


def _native_model(run: RunConfig) -> None:
    """A model that transformers has a class for: one checkpoint and a row of facts."""
    model = run.model
    if (reason := REMOTE_CODE.get(model.architecture)) is not None:
        raise UserError(f"model.architecture={model.architecture}: needs code from its repository; {reason}")
    try:
        resolve_name("architecture", model.architecture, key="model.architecture")
    except UserError as error:
        valid = f"{error}, {LLAVA}; another model that transformers has is a row more in vrx/models/architectures.py"
        raise UserError(f"{valid}, see docs/own_model.md") from None
    if model.lvlm is None:
        raise UserError(f"model.lvlm=null: model.architecture={model.architecture} is one checkpoint; name it")
    for key in ("backbone", "vision_tower", "projector", "image_token"):
        if getattr(model, key):
            raise UserError(
                f"model.{key}={getattr(model, key)}: valid with model.architecture={LLAVA}; a {model.architecture} "
                "checkpoint brings its own"
            )
    if run.job.name in ASSEMBLED_JOBS:
        raise UserError(f"job={run.job.name}: valid with model.architecture={LLAVA}, not with {model.architecture}")
