"""Training: the loss, the schedule, the loop."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration

from vrx import checkpoint
from vrx.batches import Batch, Plan
from vrx.config import TrainConfig
from vrx.devices import device
from vrx.distributed import is_main, rank, world_size
from vrx.engine import Engine
from vrx.prompts import IGNORE
from vrx.records import read_log


class Supervised(nn.Module):
    """An LVLM with its loss. Every rank runs the same modules in the same order, whatever its samples are: a batch
    without images sends a blank one through tower and projector, and adds nothing of it (its gradient is exactly 0).
    """

    def __init__(self, lvlm: LlavaForConditionalGeneration, blank: torch.Tensor) -> None:
        super().__init__()
        self.lvlm, self.blank = lvlm, blank[None]

    def forward(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        attention_mask: torch.Tensor,
        pixels: torch.Tensor | None,
    ) -> torch.Tensor:
        """Sum over supervised tokens of the negative log-likelihood, fp32 scalar.

        input_ids, labels, attention_mask: (batch, length), padded on the right; pixels: (images, 3, H, W).
        """
        core = self.lvlm.model
        embeddings = core.get_input_embeddings()(input_ids)  # (batch, length, hidden)
        images = (self.blank if pixels is None else pixels).to(embeddings.device, embeddings.dtype)
        features: Any = core.get_image_features(pixel_values=images).pooler_output
        features = torch.cat(list(features)).to(embeddings.dtype)  # (images x tokens, hidden)
        if pixels is None:
            embeddings = embeddings + 0.0 * features.sum()
        else:
            place = (input_ids == self.lvlm.config.image_token_id)[..., None]
            embeddings = embeddings.masked_scatter(place, features)
        hidden = core.language_model(
            inputs_embeds=embeddings, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        logits = self.lvlm.lm_head(hidden[:, :-1]).float()
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="sum"
        )


def lr_factor(step: int, num_steps: int, warmup_ratio: float) -> float:
    """Linear warm-up from 0, then a half cosine to 0 (transformers' cosine schedule, as in the paper's runs)."""
    warmup = math.ceil(num_steps * warmup_ratio)
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))


def num_supervised(batch: Batch) -> int:
    return int((batch["labels"][:, 1:] != IGNORE).sum())


def counts(batch: Batch) -> list[int]:
    """Tokens, supervised tokens and complaints of a micro-batch."""
    return [int(batch["attention_mask"].sum()), num_supervised(batch), len(batch["bad"]) + len(batch["cut"])]


def train(
    engine: Engine, plan: Plan, batches: Iterator[Batch], config: TrainConfig, run_dir: Path, *, start: int, every: int
) -> None:
    """Run the steps `start` to the last, log each to `train.jsonl`, keep a checkpoint `every` so many steps.

    Dropout is seeded by (seed, step, micro-batch), so neither a resume nor the number of ranks changes a number.
    """
    accumulation = plan.chunks_per_step // world_size()
    bar = tqdm(total=plan.num_steps, initial=start, desc="train", unit="step", disable=not is_main(), mininterval=0.5)
    engine.module.train()
    with (run_dir / "train.jsonl").open("a", encoding="utf-8") as log:
        for step in range(start, plan.num_steps):
            began = time.perf_counter()
            factor = lr_factor(step, plan.num_steps, config.warmup_ratio)
            engine.set_lr(factor)
            micro_batches = [next(batches) for _ in range(accumulation)]
            waited = time.perf_counter() - began
            told = torch.zeros(4, dtype=torch.float64)  # loss, then `counts`, of the global batch
            told[1:] = torch.tensor([counts(batch) for batch in micro_batches]).sum(0)
            told = _all_sum(told)
            complaints = {key: _from_all([b[key] for b in micro_batches]) if told[3] else [] for key in ("bad", "cut")}
            for number, batch in enumerate(micro_batches):
                seed_dropout(plan.seed, step, number * world_size() + rank())
                if config.loss_average == "token":
                    share = plan.chunks_per_step / max(1, int(told[2]))
                else:
                    share = 1 / max(1, num_supervised(batch))
                on_device = {key: value.to(device()) for key, value in batch.items() if isinstance(value, torch.Tensor)}
                loss = engine(**{"pixels": None, **on_device}) * share
                engine.backward(loss)
                told[0] += loss.detach().double().cpu() / plan.chunks_per_step
            total = _all_sum(told[:1]).item()
            if not math.isfinite(total):
                raise ValueError(f"train.lr={config.lr}: the loss of step {step} is {total}; valid is a smaller rate")
            seconds = time.perf_counter() - began
            if is_main():
                row = {"step": step, "loss": total, "lr": config.lr * factor, "tokens": int(told[1])}
                row |= {"bad_images": complaints["bad"], "cut_images": complaints["cut"]}
                row |= {"seconds": seconds, "seconds_waiting_for_data": waited}
                log.write(json.dumps(row) + "\n")
                log.flush()
                bar.set_postfix(
                    loss=f"{total:.3f}", lr=f"{row['lr']:.1e}", tok_s=f"{told[1] / seconds:.0f}", refresh=False
                )
            bar.update()
            if (step + 1) % every == 0 and step + 1 < plan.num_steps:
                checkpoint.save(engine, run_dir, step + 1)
    bar.close()


def _all_sum(values: torch.Tensor) -> torch.Tensor:
    if world_size() > 1:
        on_device = values.to(device())
        dist.all_reduce(on_device)
        return on_device.cpu()
    return values.clone()


def _from_all(found: list[list[str]]) -> list[str]:
    """The complaints of every rank's micro-batches, in the order of the micro-batches."""
    of_ranks = [found] * world_size()
    if world_size() > 1:
        dist.all_gather_object(of_ranks, found)
    return [complaint for at_once in zip(*of_ranks, strict=True) for one in at_once for complaint in one]


def seed_dropout(seed: int, step: int, micro_batch: int) -> None:
    told = hashlib.sha256(f"dropout {seed} {step} {micro_batch}".encode()).digest()
    torch.manual_seed(int.from_bytes(told[:8], "big") >> 1)


def summary(run_dir: Path, *, trainable_parameters: int, num_gpus: int, peak_memory_gb: float) -> dict[str, Any]:
    """What `train.json` tells; times are summed over the steps, so a run that was interrupted counts none twice."""
    rows = read_log(run_dir / "train.jsonl")
    seconds = sum(row["seconds"] for row in rows)
    return {
        "steps": len(rows),
        "seconds": seconds,
        "gpu_hours": seconds * num_gpus / 3600,
        "tokens_per_second": sum(row["tokens"] for row in rows) / seconds,
        "peak_memory_gb": peak_memory_gb,
        "trainable_parameters": trainable_parameters,
        "final_loss": rows[-1]["loss"],
        "bad_images": [complaint for row in rows for complaint in row["bad_images"]],
        "cut_images": [complaint for row in rows for complaint in row.get("cut_images", ())],
    }
