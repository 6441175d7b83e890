"""`adapter_config.json` of a LoRA adapter: what it says is known and obeyed, or refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.models.architecture import matches_target
from vrx.models.checkpoint_layouts import summarize_names
from vrx.runs.files import read_json_object

FILE = "adapter_config.json"
# Keys that are obeyed, and keys that say nothing about the weights. Any other must be null, false or empty.
OBEYED = (
    "peft_type r lora_alpha use_rslora use_dora init_lora_weights target_modules layers_to_transform "
    "base_model_name_or_path"
)
DESCRIPTIVE = (
    "task_type inference_mode revision auto_mapping peft_version lora_dropout layers_pattern exclude_modules "
    "modules_to_save megatron_core qalora_group_size loftq_config eva_config corda_config runtime_config bias"
)
KNOWN = frozenset(f"{OBEYED} {DESCRIPTIVE}".split())
PLAIN_STARTS = ("none", "true", "false", "gaussian", "orthogonal", "eva")  # they leave the base as it is
MAX_RANK = 1 << 16


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The configuration of a plain LoRA or DoRA adapter; `UserError` names what it says beyond that."""
    path = folder / FILE
    config = read_json_object(path)
    unsupported = [str(key) for key, value in config.items() if key not in KNOWN and value]
    unsupported += ["bias"] if config.get("bias") not in (None, "none") else []
    if config.get("peft_type") != "LORA" or unsupported:
        found_type = " ".join([str(config.get("peft_type")), *unsupported])
        raise UserError(f"{path}: valid is plain LoRA or DoRA, this is {found_type}")
    start, rank, alpha = config.get("init_lora_weights"), config.get("r"), config.get("lora_alpha")
    if str(start).lower() not in PLAIN_STARTS:
        raise UserError(
            f"{path}: init_lora_weights={start}: it changed the base too; valid is an adapter converted to plain LoRA"
        )
    if not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        raise UserError(f"{path}: r={rank}: must be a whole number >= 1")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
        raise UserError(f"{path}: lora_alpha={alpha}: must be a number above 0")
    return config


def require_same_targets(folder: Path, config: dict[str, Any], modules: Iterable[str]) -> None:
    """Refuse an adapter whose tensors are of other modules or layers than its configuration says: `UserError`.

    modules: the names of the adapted modules, as PEFT matches them with `target_modules`: a list of endings, or a
    regular expression.
    """
    modules, targets = list(modules), config.get("target_modules")
    if isinstance(targets, list):
        unused = [str(target) for target in targets if not any(matches_target(name, [str(target)]) for name in modules)]
        unnamed = [name for name in modules if not matches_target(name, list(map(str, targets)))]
        if unused or unnamed:
            misfit = (
                f"no tensors of {summarize_names(unused)}" if unused else f"tensors of {summarize_names(unnamed)} too"
            )
            raise UserError(f"{folder}: its weights are not of the target_modules of {FILE}: {misfit}")
    if isinstance(targets, str) and targets != "all-linear":
        try:
            unnamed = [name for name in modules if not re.fullmatch(targets, name)]
        except re.error as error:
            raise UserError(f"{folder / FILE}: target_modules={targets}: no regular expression: {error}") from None
        if unnamed:
            names = summarize_names(unnamed)
            raise UserError(f"{folder}: its weights are not of the target_modules of {FILE}: tensors of {names} too")
    _require_same_layers(folder, config, modules)


def _require_same_layers(folder: Path, config: dict[str, Any], modules: list[str]) -> None:
    layers = config.get("layers_to_transform")
    if layers is None:
        return
    named = {layers} if isinstance(layers, int) else set(layers) if isinstance(layers, list) else set()
    actual = {int(match[1]) for name in modules if (match := re.search(r"\.layers\.(\d+)\.", name))}
    if actual != named:
        raise UserError(
            f"{folder}: its weights are of the layers {sorted(actual)}, not of {FILE}'s layers_to_transform={layers}"
        )
