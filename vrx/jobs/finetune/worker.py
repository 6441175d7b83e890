"""The stage `train`: tune the chosen layers of an LVLM, from its parts to the saved adapter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from vrx.config.schema import RunConfig
from vrx.data import dataloader, dataset, instruction_dataset, sampler
from vrx.data.batch import MicroBatch, collate
from vrx.launch.devices import DTYPES, device, device_facts, peak_memory_gb
from vrx.launch.logging import is_main, log, rank
from vrx.launch.ranks import barrier, set_ready, world_size
from vrx.models import loading, lora
from vrx.runs.files import read_json
from vrx.runs.layer_selection import select_layers
from vrx.runs.provenance import current_provenance
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import parse_train_summary
from vrx.training import checkpoint, engine, loop, matmul_throughput, setup


def train(run: RunConfig, run_dir: Path) -> None:
    """Tune the chosen layers; leaves `adapter/` and, last, `train.json`."""
    files = RunDir(run_dir)
    data = read_json(files.data)
    rows = instruction_dataset.open_table(Path(data["table"]))
    chosen = instruction_dataset.subset(len(rows), run.data_fraction.fraction, seed=run.seed)
    words = instruction_dataset.lengths(rows)[chosen]
    plan = sampler.BatchPlan(chosen, run.train, seed=run.seed, lengths=words.tolist())
    layers = select_layers(run)
    run, off = setup.decided(run, words, num_steps=plan.num_steps)
    tokenizer = loading.tokenizer_of(run.model)
    image_token_id = loading.image_token_id(run.model, tokenizer)
    prepared = setup.prepare(run, layers)
    resumed = checkpoint.latest(run_dir)
    if resumed is not None:
        for name, tensor in resumed.weights().items():
            prepared.trainable[name].data.copy_(tensor)
    set_ready(run_dir)
    log(
        f"{run.model.name}: tuning layers {', '.join(map(str, layers))} and the projector, {prepared.num_trainable:,} "
        f"parameters; {plan.num_steps} steps of {run.train.global_batch_size} samples from {len(plan.rows):,}"
    )
    runner = engine.create(prepared.module, lora.optimizer_groups(prepared.trainable, run.train), run.train, run.engine)
    folder = run.instructions.image_folder
    source = dataset.TrainingDataset(
        rows,
        run.model,
        tokenizer,
        image_token_id=image_token_id,
        image_folder=Path(folder) if folder else None,
        on_bad_image=run.instructions.on_bad_image,
    )
    pad, packed = int(tokenizer.pad_token_id), bool(run.engine.packed)  # type: ignore[arg-type]
    longest = [chosen[place] for place in abs(words).argsort()[-run.train.micro_batch_size :]]

    def heaviest() -> MicroBatch:
        return collate([source[row] for row in longest], pad_token_id=pad, packed=packed)

    how = setup.finish(prepared, run, heaviest)
    start = 0
    if resumed is not None:
        runner.load_optimizer_state(resumed.optimizer_state())
        start = resumed.step
        log(f"going on from step {start}")
    if is_main():
        checkpoint.rewind_log(run_dir, start)
    barrier()
    stream = dataloader.make_dataloader(
        source,
        plan.of_rank(rank(), world_size(), start=start),
        pad_token_id=pad,
        num_workers=run.runtime.num_workers,
        packed=packed,
    )
    loop.train(
        runner,
        plan,
        iter(stream),
        run.train,
        run_dir,
        start=start,
        every=run.runtime.checkpoint_every,
        operations=prepared.operations(layers, run.lora.r),
    )
    weights = runner.weights()
    if is_main():
        partial = run_dir / ".adapter.partial"
        shutil.rmtree(partial, ignore_errors=True)
        own = {name.removeprefix("lvlm."): tensor for name, tensor in weights.items()}
        lora.save_adapter(prepared.tuned, own, partial)
        shutil.rmtree(files.adapter, ignore_errors=True)
        partial.replace(files.adapter)
        summary = parse_train_summary(_told(run, run_dir, prepared.num_trainable))
        summary.execution = how | {"off": off}
        summary.provenance = current_provenance(**device_facts())
        summary.write(files.train_summary)
        shutil.rmtree(files.checkpoints, ignore_errors=True)


def _told(run: RunConfig, run_dir: Path, num_trainable: int) -> dict[str, Any]:
    return loop.summary(
        run_dir,
        trainable_parameters=num_trainable,
        num_gpus=world_size() if device().type == "cuda" else 0,
        peak_memory_gb=peak_memory_gb(),
        ceiling=world_size() * matmul_throughput.measured_matmul_flops(DTYPES[run.train.dtype]),
    )
