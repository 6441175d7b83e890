"""What every training stage of a worker shares: samples, checkpoints, the loop, the result and its summary."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vrx.config.errors import UserError
from vrx.config.schema import CaptionsConfig, InstructionsConfig, RunConfig
from vrx.data import dataloader, run_data, sampler
from vrx.data.batch import MicroBatch, collate
from vrx.data.conversations import chat_dataset
from vrx.data.conversations.processors import describe
from vrx.data.instructions import dataset, instruction_dataset
from vrx.data.sample_dataset import SampleDataset
from vrx.launch import preemption
from vrx.launch.devices import DTYPES, device, device_facts, peak_memory_gb
from vrx.launch.logging import is_main, log, rank
from vrx.launch.ranks import barrier, set_ready, world_size
from vrx.models import loading, lora
from vrx.runs.durable import partial_folder, put_in_place
from vrx.runs.files import file_digest, read_json
from vrx.runs.provenance import current_provenance
from vrx.runs.run_dir import RunDir
from vrx.training import checkpoint, engine, execution, loop, setup, train_log
from vrx.training.checkpoint import Checkpoint
from vrx.training.cost_model import EXPECTED_MFU, expected_seconds
from vrx.training.deepspeed_engine import whole_parameters
from vrx.training.engine import Engine
from vrx.training.flops import Workload
from vrx.training.matmul_throughput import peak_flops_per_second
from vrx.training.setup import TrainableModel

SaveResult = Callable[[dict[str, Tensor], Path], None]  # full trained tensors by name in the LVLM, a new folder


@dataclass
class TrainingData:
    """The samples of a run, their order, and their lengths in words, (samples,), negative without an image."""

    dataset: SampleDataset[Any]
    plan: sampler.BatchPlan
    words: np.ndarray
    pad_token_id: int
    pictures: dict[str, str] | None = None  # what makes the pixels, where that is the model's own processor

    def largest_batch(self, *, packed: bool) -> MicroBatch:
        """A micro-batch of the longest samples."""
        longest = abs(self.words).argsort()[-self.plan.config.micro_batch_size :]
        samples = [self.dataset[self.plan.rows[index]] for index in longest]
        return collate(samples, pad_token_id=self.pad_token_id, packed=packed)

    def sample_pictures(self, number: int, *, batch_size: int = 64) -> Iterator[Tensor]:
        """Pictures of about `number` samples from all over the data, (images, 3, H, W) each."""
        rows = self.plan.rows[:: max(1, len(self.plan.rows) // number)]
        for start in range(0, len(rows), batch_size):
            samples = [self.dataset[row] for row in rows[start : start + batch_size]]
            pictures = [sample.pixels for sample in samples if sample.pixels is not None]
            if pictures:
                yield torch.stack(pictures)


def open_data(run: RunConfig, run_dir: Path, source: InstructionsConfig | None = None) -> TrainingData:
    """Open the table that the driver converted, and plan the order of the run's part of it.

    source: `run.instructions`, where it is None, or `run.captions`.
    """
    source = source or run.instructions
    folder = Path(read_json(RunDir(run_dir).data)["table"])
    rows, all_words = run_data.open_rows(run, folder)
    subset = instruction_dataset.draw_subset(len(rows), run.data_fraction.fraction, seed=run.seed)
    words = all_words[subset]
    plan = sampler.BatchPlan(subset, run.train, seed=run.seed, lengths=words.tolist())
    if not run.model.is_assembled:
        encoder = chat_dataset.load_encoder(run.model)
        chats = chat_dataset.ChatDataset(rows, encoder, on_bad_image=source.on_bad_image, section=source.section)
        _ = chats[subset[0]]  # a chat template that rewrites answers is refused before weights are loaded
        pad, pictures = int(encoder.tokenizer.pad_token_id), describe(encoder.processor)
        return TrainingData(chats, plan, words, pad_token_id=pad, pictures=pictures)
    tokenizer = loading.load_model_tokenizer(run.model)
    training_dataset = dataset.TrainingDataset(
        rows,
        run.model,
        tokenizer,
        image_token_id=loading.image_token_id(run.model, tokenizer),
        image_folder=Path(source.image_folder) if source.image_folder else None,
        on_bad_image=source.on_bad_image,
        section=source.section,
        is_plain=isinstance(source, CaptionsConfig) and source.template == "plain",
    )
    return TrainingData(training_dataset, plan, words, pad_token_id=int(tokenizer.pad_token_id))  # type: ignore[arg-type]


def train_model(
    run: RunConfig,
    run_dir: Path,
    model: TrainableModel,
    data: TrainingData,
    *,
    num_layers: int,
    off: dict[str, str],
    message: str,
    result: Path,
    save: SaveResult,
) -> None:
    """Train a loaded model from its last checkpoint on; leaves the folder `result` and, last, `train.json`.

    run, off: as `setup.decide_switches` gives them; num_layers: of decoder layers with adapters; message: what is
    trained, logged with the numbers of parameters, steps and samples; save: writes the result into a new folder.
    Raises `Preempted` where any rank is asked to stop: after the present step and its checkpoint, or after the result.
    """
    resumed = load_weights(model, run_dir)
    set_ready(run_dir)
    log(
        f"{run.model.name}: {message}, {model.num_trainable:,} parameters; {data.plan.num_steps} steps of "
        f"{run.train.global_batch_size} samples from {len(data.plan.rows):,}"
    )
    trainer = engine.create(model.module, lora.optimizer_groups(model.trainable, run.train), run.train, run.engine)
    packed = bool(run.engine.packed)
    switches = setup.checkpoint_and_compile(model, run, lambda: data.largest_batch(packed=packed))
    start = resume(trainer, resumed, run_dir, num_steps=data.plan.num_steps)
    executions = execution.continued(resumed.position.executions if resumed else [], step=start)
    flops = model.flops_counter(num_layers=num_layers, lora=run.lora)
    _log_expectation(run, data, steps=data.plan.num_steps - start, flops=flops)
    chunks = data.plan.of_rank(rank(), world_size(), start=start)
    batches = dataloader.make_dataloader(
        data.dataset,
        chunks,
        pad_token_id=data.pad_token_id,
        num_workers=run.runtime.num_workers,
        packed=packed,
        blank=data.dataset.blank() if setup.is_sharded(run) else None,
    )
    with preemption.deferred():
        loop.train(
            trainer,
            data.plan,
            iter(batches),
            run.train,
            run_dir,
            start=start,
            checkpoint_every=run.runtime.checkpoint_every,
            executions=executions,
            flops=flops,
        )
        weights = trainer.weights()  # on all ranks
        if is_main():
            _save(weights, result, save)
            pictures = {} if data.pictures is None else {"pictures": data.pictures}
            resumes = {"resumes": executions[1:]} if len(executions) > 1 else {}
            _summarize(run, run_dir, model, result, execution={**switches, "off": off, **pictures, **resumes})
        if loop.is_asked_to_stop(run_dir):  # all ranks wait here for the result
            preemption.stop()


def _log_expectation(run: RunConfig, data: TrainingData, *, steps: int, flops: Callable[[Workload], float]) -> None:
    """Say how long the remaining steps will take, by their FLOPs and the speed of this device."""
    if not is_main() or not steps:
        return
    peak = world_size() * peak_flops_per_second(DTYPES[run.train.dtype])
    mfu = EXPECTED_MFU[device().type, run.train.dtype]
    seconds = expected_seconds(data.words, run, steps=steps, flops=flops, peak=peak, mfu=mfu)
    log(f"training takes about {max(1, round(seconds / 60))} min, at {mfu:.0%} of {peak / 1e12:.2g} TFLOP/s")
    if run.train.dtype == "bfloat16" and device().type == "cpu":
        gain = peak_flops_per_second(DTYPES["float32"]) / peak_flops_per_second(DTYPES["bfloat16"])
        if gain > 1:
            log(f"train.dtype=bfloat16: this CPU computes {gain:.1f} times as fast with train.dtype=float32")


def load_weights(model: TrainableModel, run_dir: Path) -> Checkpoint | None:
    """Copy the weights of the latest checkpoint into the model; gives that checkpoint, None without one.

    `UserError` where they are not the weights that are trained.
    """
    latest = checkpoint.latest(run_dir)
    if latest is not None:
        weights = latest.weights()
        if different := weights.keys() ^ model.trainable.keys():
            raise UserError(f"{latest.folder}: {min(different)} is in the checkpoint or in the model, not in both")
        with whole_parameters(model.trainable.values()):
            for name, tensor in weights.items():
                model.trainable[name].data.copy_(tensor)
    return latest


def resume(trainer: Engine, latest: Checkpoint | None, run_dir: Path, *, num_steps: int) -> int:
    """Restore the optimizer and the log from a checkpoint; gives the step to start with.

    `UserError` where the checkpoint is not of a run of `num_steps` steps, or its log is lost.
    """
    if latest is None:
        if is_main():
            train_log.rewind(run_dir, 0)
        barrier()
        return 0
    otherwise = f"delete {latest.folder.parent} to train from the start"
    if latest.step >= num_steps:
        raise UserError(f"{latest.folder}: step {latest.step} of a training of {num_steps} steps; {otherwise}")
    trainer.load_optimizer_state(latest.optimizer_state())
    log(f"resuming from step {latest.step}")
    if is_main() and not latest.restore_log(run_dir):
        train_log.rewind(run_dir, latest.step)
        if len(train_log.read_rows(run_dir)) < latest.step:
            raise UserError(f"{RunDir(run_dir).train_log}: lacks steps before {latest.step}; {otherwise}")
    barrier()
    return latest.step


def _save(weights: dict[str, Tensor], result: Path, save: SaveResult) -> None:
    """Save the result under its name only when it is complete."""
    partial = partial_folder(result)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save({name.removeprefix("lvlm."): tensor for name, tensor in weights.items()}, partial)
    put_in_place(partial, result)


def _summarize(
    run: RunConfig, run_dir: Path, model: TrainableModel, result: Path, *, execution: dict[str, Any]
) -> None:
    """Write `train.json`, whose presence says that training is finished; it has digests of the result's files."""
    summary = train_log.summarize(
        run_dir,
        trainable_parameters=model.num_trainable,
        num_gpus=world_size() if device().type == "cuda" else 0,
        peak_memory_gb=peak_memory_gb(),
        peak_flops_per_second=world_size() * peak_flops_per_second(DTYPES[run.train.dtype]),
    )
    summary.execution = execution
    summary.provenance = current_provenance(**device_facts())
    summary.result = {path.name: file_digest(path) for path in sorted(result.iterdir())}
    summary.write(RunDir(run_dir).train_summary)
    shutil.rmtree(RunDir(run_dir).checkpoints, ignore_errors=True)
