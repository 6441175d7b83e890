"""Training in the test's own process: the stage `train`, and gradients at fixed weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.whole_runs import rows
from torch import Tensor

from vrx.config.frozen import freeze
from vrx.config.schema import RunConfig
from vrx.data.batch import collate
from vrx.data.instructions import instruction_dataset
from vrx.data.instructions.dataset import TrainingDataset
from vrx.models import loading
from vrx.runs.layer_selection import select_layers
from vrx.runs.run_dir import RunDir

SHORT = ("engine.name=torch", "train.max_steps=4", "train.global_batch_size=4", "train.warmup_ratio=0")


def train_here(run: RunConfig, run_dir: Path) -> Path:
    """Run the stage `train` of a run; gives its directory."""
    from vrx.jobs.finetune.worker import train

    write_inputs(run, run_dir)
    train(run, run_dir)
    return run_dir


def write_inputs(run: RunConfig, run_dir: Path) -> None:
    """Leave what the driver leaves for the stage `train`."""
    digest = instruction_dataset.data_digest(run.instructions)
    table = instruction_dataset.build_table(run.instructions, run_dir / "data", digest=digest)
    run_dir.mkdir(exist_ok=True)
    RunDir(run_dir).data.write_text(json.dumps({"table": str(table)}))
    RunDir(run_dir).config.write_text(freeze(run))


def gradients(run: RunConfig, run_dir: Path) -> dict[str, Tensor]:
    """Gradients of a run's first global batch by name, at adapters that have moved away from their start.

    Runs that must compute the same numbers are compared by these and not by updated weights: AdamW divides by the
    gradient's size, so an element whose gradient is rounding noise may move by the whole learning rate.
    """
    from vrx.training import loop, setup
    from vrx.training.loss import num_supervised
    from vrx.training.stage import open_data

    write_inputs(run, run_dir)
    data = open_data(run, run_dir)
    run, _ = setup.decide_switches(run, data.words, num_steps=data.plan.num_steps)
    model = setup.load_trainable(run, select_layers(run))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.trainable.values():
        parameter.data.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    packed = bool(run.engine.packed)
    setup.checkpoint_and_compile(model, run, lambda: data.largest_batch(packed=packed))
    model.module.train()
    for number in range(data.plan.chunks_per_step):
        samples = [data.dataset[row] for row in data.plan.chunk(0, number)]
        batch = collate(samples, pad_token_id=data.pad_token_id, packed=packed)
        loop.seed_dropout(run.seed, 0, number)
        (model.module(**batch.model_inputs()) / num_supervised(batch)).backward()
    return {name: parameter.grad for name, parameter in model.trainable.items() if parameter.grad is not None}


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], *, rel: float = 1e-4) -> None:
    """Each tensor agrees in its norm: |ours - theirs| <= rel |theirs|."""
    assert ours.keys() == theirs.keys() and ours
    for name, expected in theirs.items():
        assert (ours[name] - expected).norm() <= rel * expected.norm() + 1e-9, name


def training_dataset(run: RunConfig, folder: Path) -> TrainingDataset:
    """The instruction samples of a run, converted in a folder."""
    table = instruction_dataset.build_table(
        run.instructions, folder, digest=instruction_dataset.data_digest(run.instructions)
    )
    tokenizer = loading.load_model_tokenizer(run.model)
    return TrainingDataset(
        instruction_dataset.open_table(table),
        run.model,
        tokenizer,
        image_token_id=loading.image_token_id(run.model, tokenizer),
        image_folder=Path(run.instructions.image_folder or ""),
        on_bad_image="error",
    )


def assert_same_course(ours: Path, theirs: Path) -> None:
    """Two finished runs agree in losses, gradient norms and adapters.

    A few elements of the adapters may differ, those whose gradient is rounding noise; see `gradients`.
    """
    ours_rows, theirs_rows = rows(ours), rows(theirs)
    assert [row["loss"] for row in ours_rows] == pytest.approx([row["loss"] for row in theirs_rows], abs=1e-5)
    norms = [[row["grad_norm"] for row in log] for log in (ours_rows, theirs_rows)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    differences = []
    for file in ("adapter_model.safetensors", "projector.safetensors"):
        adapters = [load_file(folder / "adapter" / file) for folder in (ours, theirs)]
        assert adapters[0].keys() == adapters[1].keys()
        differences += [(adapters[0][name] - adapters[1][name]).abs().flatten() for name in adapters[0]]
    assert (torch.cat(differences) < 1e-4).float().mean() > 0.999
