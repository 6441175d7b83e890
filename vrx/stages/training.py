"""The stage `train`: tune the chosen layers of an LVLM, from its parts to the saved adapter."""

from __future__ import annotations

import shutil
from pathlib import Path

from vrx import batches, checkpoint, engine, instructions, lora, models
from vrx import train as loop
from vrx.checks import select
from vrx.config import RunConfig
from vrx.devices import DTYPES, device, peak_memory_gb
from vrx.distributed import barrier, is_main, log, rank, set_ready, world_size
from vrx.images import Pixels
from vrx.records import read_json, write_json


def train(run: RunConfig, run_dir: Path) -> None:
    """Tune the chosen layers; leaves `adapter/` and, last, `train.json`."""
    data = read_json(run_dir / "data.json")
    rows = instructions.open_table(Path(data["table"]))
    chosen = instructions.subset(len(rows), run.data_fraction.fraction, seed=run.seed)
    lengths = instructions.lengths(rows)[chosen].tolist()
    plan = batches.Plan(chosen, run.train, seed=run.seed, lengths=lengths)
    tokenizer = models.tokenizer_of(run.model)
    image_token_id = models.image_token_id(run.model, tokenizer)
    layers = select(run)
    with engine.sharing_weights(run.train, run.engine, enabled=run.model.lvlm is None):
        lvlm = models.load(run.model, dtype=DTYPES[run.train.dtype])
    tuned = lora.apply_lora(lvlm, layers, run.lora, seed=run.seed)
    if run.train.gradient_checkpointing:
        lvlm.activation_checkpointing_enable({"use_reentrant": False})
    module = loop.Supervised(lvlm, Pixels(run.model).blank())
    resumed = checkpoint.latest(run_dir)
    trainable = lora.trainable_parameters(module)
    num_trainable = sum(parameter.numel() for parameter in trainable.values())
    if resumed is not None:
        for name, tensor in resumed.weights().items():
            trainable[name].data.copy_(tensor)
    groups = [
        {"params": [tensor for name, tensor in trainable.items() if "lora_" in name], "lr": run.train.lr},
        {"params": [tensor for name, tensor in trainable.items() if "lora_" not in name], "lr": run.train.projector_lr},
    ]
    set_ready(run_dir)
    log(
        f"{run.model.name}: tuning layers {', '.join(map(str, layers))} and the projector, {num_trainable:,} "
        f"parameters; {plan.num_steps} steps of {run.train.global_batch_size} samples from {len(plan.rows):,}"
    )
    runner = engine.create(module, groups, run.train, run.engine)
    start = 0
    if resumed is not None:
        runner.load_optimizer_state(resumed.optimizer_state())
        start = resumed.step
        log(f"going on from step {start}")
    if is_main():
        checkpoint.rewind_log(run_dir, start)
    barrier()
    folder = run.instructions.image_folder
    source = batches.Samples(
        rows,
        run.model,
        tokenizer,
        image_token_id=image_token_id,
        image_folder=Path(folder) if folder else None,
        on_bad_image=run.instructions.on_bad_image,
    )
    stream = batches.loader(
        source,
        plan.of_rank(rank(), world_size(), start=start),
        pad_token_id=int(tokenizer.pad_token_id),  # type: ignore[arg-type]
        num_workers=run.runtime.num_workers,
    )
    loop.train(runner, plan, iter(stream), run.train, run_dir, start=start, every=run.runtime.checkpoint_every)
    weights = runner.weights()
    if is_main():
        partial = run_dir / ".adapter.partial"
        shutil.rmtree(partial, ignore_errors=True)
        lora.save_adapter(tuned, {name.removeprefix("lvlm."): tensor for name, tensor in weights.items()}, partial)
        shutil.rmtree(run_dir / "adapter", ignore_errors=True)
        partial.replace(run_dir / "adapter")
        gpus = world_size() if device().type == "cuda" else 0
        told = loop.summary(run_dir, trainable_parameters=num_trainable, num_gpus=gpus, peak_memory_gb=peak_memory_gb())
        write_json(run_dir / "train.json", told)
        shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)
