"""The worker stage `train`: tune the chosen layers of an LVLM and save the adapter."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vrx.config.schema import RunConfig
from vrx.models import lora_checkpoint
from vrx.models.projector_weights import save_connector, save_projector
from vrx.runs.layer_selection import select_layers
from vrx.runs.run_dir import RunDir
from vrx.training import setup, stage
from vrx.training.picture_tokens import require_picture_tokens


def train(run: RunConfig, run_dir: Path) -> None:
    """Tune the chosen layers; leaves `adapter/` and, last, `train.json`."""
    layers = select_layers(run)
    data = stage.open_data(run, run_dir)
    run, off = setup.decide_switches(run, data.words, num_steps=data.plan.num_steps)
    model = setup.load_trainable(run, layers)
    require_picture_tokens(run, model.lvlm, data)

    def save(state: dict[str, Tensor], folder: Path) -> None:
        beside = save_projector if run.model.is_assembled else save_connector
        lora_checkpoint.save_adapter(model.peft_model, state, folder, save_beside=beside)

    stage.train_model(
        run,
        run_dir,
        model,
        data,
        num_layers=len(layers),
        off=off,
        message=f"tuning layers {', '.join(map(str, layers))}" + (" and the projector" if run.train.connector else ""),
        result=RunDir(run_dir).adapter,
        save=save,
    )
