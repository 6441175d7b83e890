"""Which switches of a recipe hold on this machine: each is on, or off for a reason that is told and recorded."""

from __future__ import annotations

import dataclasses

import torch

from vrx.config.schema import EngineConfig
from vrx.launch.devices import bytes_of_a_process, device
from vrx.launch.ranks import world_size

FITS = 0.6  # of a process's memory, for the weights
PAYS = {"cpu": 5e14, "cuda": 5e17}  # operations of a run, some twenty minutes, of which torch.compile takes one or two


def decide(
    wanted: EngineConfig, *, weight_bytes: float | None, operations: float
) -> tuple[EngineConfig, dict[str, str]]:
    """Every field decided, and for each switch that was turned off the reason.

    weight_bytes: of the whole LVLM, None where its shape is not known; operations: those of the whole run. What is
    decided depends on these and the machine, not on how far a run is, so a run that goes on goes on alike.
    """
    off: dict[str, str] = {}
    if wanted.zero_stage is None:
        is_held = weight_bytes is not None and weight_bytes <= FITS * bytes_of_a_process()
        is_alone = is_held and world_size() == 1  # DeepSpeed has nothing to share then, and costs a tenth of a step
        wanted = dataclasses.replace(
            wanted, name="torch" if is_alone else wanted.name, zero_stage=0 if is_alone else 2 if is_held else 3
        )
    is_sharded = wanted.name == "deepspeed" and wanted.zero_stage == 3
    if is_sharded:
        for switch in ("fused_lora", "compile"):
            if getattr(wanted, switch):
                off[switch] = "ZeRO-3 gathers weights one module at a time"
        if wanted.skip_vision_tower and world_size() > 1:
            off["skip_vision_tower"] = "at ZeRO-3 every process has a part of the tower"
    if wanted.compile and "compile" not in off:
        if wanted.compile == "auto" and operations < PAYS[device().type]:
            off["compile"] = "too short a run for it to pay"
        elif reason := compiler_lacks():
            off["compile"] = reason
    return dataclasses.replace(wanted, **dict.fromkeys(off, None)), off


def compiler_lacks() -> str | None:
    """Why torch.compile does not work here; None where it does. Takes seconds the first time."""
    try:
        torch.compile(lambda x: (x + 1).relu())(torch.ones(8, device=device()))
    except Exception as error:
        return f"torch.compile does not work here: {str(error).strip().splitlines()[0]}"
    return None
