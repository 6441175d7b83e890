"""Which switches of a recipe this machine allows: each is on, or off for a reason that is logged and recorded."""

from __future__ import annotations

import dataclasses

import torch

from vrx.config.schema import EngineConfig
from vrx.launch.devices import bytes_of_a_process, device
from vrx.launch.ranks import world_size

WEIGHTS_SHARE = 0.6  # of a process's memory, up to which it holds all weights
COMPILE_PAYS = {"cpu": 5e14, "cuda": 5e17}  # FLOPs of a run of some twenty minutes; compiling takes one or two


def decide(
    wanted: EngineConfig, *, weight_bytes: float | None, total_flops: float, use_dora: bool = False
) -> tuple[EngineConfig, dict[str, str]]:
    """Decide every field, and give the reason for each switch that is turned off.

    weight_bytes: of the whole LVLM, None if its shape is not known; total_flops: of the whole run. The decision depends
    on these and on the machine, not on how far a run is, so a resumed run decides alike.
    """
    off: dict[str, str] = {}
    if wanted.zero_stage is None:
        fits = weight_bytes is not None and weight_bytes <= WEIGHTS_SHARE * bytes_of_a_process()
        if fits and world_size() == 1:  # nothing to share, and DeepSpeed would add a tenth to every step
            wanted = dataclasses.replace(wanted, name="torch", zero_stage=0)
        else:
            wanted = dataclasses.replace(wanted, zero_stage=2 if fits else 3)
    is_sharded = wanted.name == "deepspeed" and wanted.zero_stage == 3
    if is_sharded:
        for switch in ("fused_lora", "compile"):
            if getattr(wanted, switch):
                off[switch] = "ZeRO-3 gathers weights one module at a time"
        if wanted.skip_vision_tower and world_size() > 1:
            off["skip_vision_tower"] = "at ZeRO-3 every process holds a part of the vision tower"
    if wanted.fused_lora and use_dora:
        off["fused_lora"] = "lora.use_dora=true needs PEFT's own forward pass"
    if wanted.compile and "compile" not in off:
        if wanted.compile == "auto" and total_flops < COMPILE_PAYS[device().type]:
            off["compile"] = "the run is too short for compiling to pay off"
        elif reason := compile_error():
            off["compile"] = reason
    return dataclasses.replace(wanted, **dict.fromkeys(off, None)), off


def compile_error() -> str | None:
    """Why torch.compile fails on this machine, None if it works; takes seconds the first time."""
    try:
        torch.compile(lambda x: (x + 1).relu())(torch.ones(8, device=device()))
    except Exception as error:
        return f"torch.compile does not work here: {str(error).strip().splitlines()[0]}"
    return None
