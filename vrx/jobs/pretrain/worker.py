"""The worker stage `pretrain`: train the projector alone and save it in our layout and in LLaVA's."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import Tensor

from vrx.config.schema import RunConfig
from vrx.models import projector_weights
from vrx.runs.durable import partial_folder, put_in_place
from vrx.runs.run_dir import RunDir
from vrx.training import setup, stage
from vrx.training.word_alignment import WordAlignment

WHITENED = 512  # pictures that word alignment whitens features over


def pretrain(run: RunConfig, run_dir: Path) -> None:
    """Train the projector; leaves `official/`, `projector/` and, last, `train.json`."""
    data = stage.open_data(run, run_dir, run.captions)
    run, off = setup.decide_switches(run, data.words, num_steps=data.plan.num_steps)
    model = setup.load_with_fresh_projector(run, data.sample_pictures(WHITENED))
    official = RunDir(run_dir).official

    def save(state: dict[str, Tensor], folder: Path) -> None:
        if isinstance(model.module, WordAlignment):
            state = model.module.folded(state)
        partial = partial_folder(official)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        projector_weights.save_official_projector(state, partial, run.model)
        put_in_place(partial, official)
        projector_weights.save_projector(state, folder)

    stage.train_model(
        run,
        run_dir,
        model,
        data,
        num_layers=0,
        off=off,
        message="training the projector alone",
        result=RunDir(run_dir).projector,
        save=save,
    )
