"""The worker stage `train`: tune the chosen layers of an LVLM and save the adapter."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vrx.config.schema import RunConfig
from vrx.models import lora_checkpoint
from vrx.runs.layer_selection import select_layers
from vrx.runs.run_dir import RunDir
from vrx.training import setup, stage


def train(run: RunConfig, run_dir: Path) -> None:
    """Tune the chosen layers; leaves `adapter/` and, last, `train.json`."""
    layers = select_layers(run)
    data = stage.open_data(run, run_dir)
    run, off = setup.decide_switches(run, data.words, num_steps=data.plan.num_steps)
    model = setup.load_trainable(run, layers)

    def save(state: dict[str, Tensor], folder: Path) -> None:
        lora_checkpoint.save_adapter(model.peft_model, state, folder)

    stage.train_model(
        run,
        run_dir,
        model,
        data,
        num_layers=len(layers),
        off=off,
        message=f"tuning layers {', '.join(map(str, layers))} and the projector",
        result=RunDir(run_dir).adapter,
        save=save,
    )
