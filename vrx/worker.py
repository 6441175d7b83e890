"""The process that touches weights: `python -m vrx.worker <stage> <run_dir>`, started by the driver through torchrun.

It starts from the frozen `config.yaml` of the run directory and knows nothing else.
"""

from __future__ import annotations

import datetime
import resource
import shutil
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import transformers

from vrx import answers, batches, benchmarks, checkpoint, engine, generate, instructions, lora, models, train
from vrx.checks import select, thaw
from vrx.config import RunConfig
from vrx.distributed import die_with_parent, is_main, local_rank, log, rank, refuse, set_ready, world_size
from vrx.images import BadImage, Pixels
from vrx.records import read_json, write_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def train_stage(run: RunConfig, run_dir: Path) -> None:
    """Tune the chosen layers; leaves `adapter/` and, last, `train.json`."""
    data = read_json(run_dir / "data.json")
    rows = instructions.open_table(Path(data["table"]))
    plan = batches.Plan(
        instructions.subset(len(rows), run.data_fraction.fraction, seed=run.seed), run.train, seed=run.seed
    )
    tokenizer = models.tokenizer_of(run.model)
    image_token_id = models.image_token_id(run.model, tokenizer)
    layers = select(run)
    lvlm = models.load(run.model, dtype=DTYPES[run.train.dtype])
    tuned = lora.apply_lora(lvlm, layers, run.lora, seed=run.seed)
    if run.train.gradient_checkpointing:
        lvlm.activation_checkpointing_enable({"use_reentrant": False})
    module = train.Supervised(lvlm, Pixels(run.model).blank())
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
    _barrier()
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
    train.train(runner, plan, iter(stream), run.train, run_dir, start=start, every=run.runtime.checkpoint_every)
    weights = runner.weights()
    if is_main():
        partial = run_dir / ".adapter.partial"
        shutil.rmtree(partial, ignore_errors=True)
        lora.save_adapter(tuned, {name.removeprefix("lvlm."): tensor for name, tensor in weights.items()}, partial)
        shutil.rmtree(run_dir / "adapter", ignore_errors=True)
        partial.replace(run_dir / "adapter")
        gpus = world_size() if engine.device().type == "cuda" else 0
        told = train.summary(
            run_dir, trainable_parameters=num_trainable, num_gpus=gpus, peak_memory_gb=_peak_memory_gb()
        )
        write_json(run_dir / "train.json", told)
        shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)


def generate_stage(run: RunConfig, run_dir: Path) -> None:
    """Answer the benchmarks with the tuned LVLM, or the untouched one where the run has no adapter."""
    cuda = engine.device().type == "cuda"
    if world_size() > 1:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=datetime.timedelta(hours=6))
    tokenizer = models.tokenizer_of(run.model)
    lvlm = models.load(run.model, dtype=DTYPES[run.train.dtype] if cuda else torch.float32)
    if (run_dir / "adapter").is_dir():
        lvlm = lora.load_adapter(lvlm, run_dir / "adapter")
    image_token_id = models.image_token_id(run.model, tokenizer)
    generator = generate.Generator(lvlm, tokenizer, run.model, image_token_id=image_token_id)
    weights = answers.weights_digest(run.model, run_dir)
    set_ready(run_dir)
    for name, config in run.benchmark.items():
        samples = benchmarks.samples(name, config, limit=run.eval.limit)
        made_from = answers.key(weights, samples, config.max_new_tokens)
        if len(answers.read_answers(answers.answers_file(run_dir, name), made_from)) == len(samples):
            continue
        generate.generate(
            generator,
            name,
            samples,
            run_dir,
            max_new_tokens=config.max_new_tokens,
            batch_size=run.eval.batch_size,
            made_from=made_from,
        )
        _barrier()
        if is_main():
            answers.collect(run_dir, name, samples, made_from)
            log(f"{name}: {len(samples)} questions answered")
        _barrier()


def _barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def _peak_memory_gb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


STAGES = {"train": train_stage, "generate": generate_stage}


def main() -> None:
    die_with_parent()
    stage, run_dir = sys.argv[1], Path(sys.argv[2])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
        torch.backends.cuda.matmul.allow_tf32 = True
    try:
        STAGES[stage](thaw(run_dir / "config.yaml"), run_dir)
    except (ValueError, FileNotFoundError, BadImage) as error:
        refuse(run_dir, error)
        sys.exit(2)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
