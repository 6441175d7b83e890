"""Estimates of what a fine-tune will cost: FLOPs, GPU-hours, memory, disk.

They are meant to be right within a factor of two, not to the percent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vrx.config.schema import RunConfig
from vrx.models.architecture import published_facts
from vrx.models.native_facts import Counts
from vrx.training.flops import Workload, step_flops

TOKENS_PER_WORD = 1.4  # English instruction data in Llama's vocabulary
FRAME = 40  # tokens of the system message and the roles
EXPECTED_MFU = {  # by device and train.dtype: share of the measured matmul throughput that training is taken to reach
    ("cpu", "float32"): 0.4,
    ("cpu", "bfloat16"): 0.2,  # units for bf16 speed up matrix products alone
    ("cuda", "float32"): 0.3,
    ("cuda", "bfloat16"): 0.3,
}
SUPERVISED = 0.2  # share of a sample's tokens that is taken to be learned
FORMULA = (
    "FLOPs per token: 4 per frozen weight and 6 per LoRA or projector weight (2 more of each decoder weight with "
    "gradient_checkpointing), attention 2 x length x width forward; "
    "GPU-hours = FLOPs / (check.expected_mfu x dense bf16 peak of the GPU)"
)


@dataclass(frozen=True)
class Lengths:
    """Sample lengths in tokens: mean after padding in a micro-batch, longest, and share of samples with an image."""

    padded: float
    longest: int
    with_image: float


def lengths_in_tokens(words: np.ndarray, run: RunConfig) -> Lengths:
    """Lengths from the number of words of every sample, shape (samples,), negative for samples without an image."""
    images, tokens = words > 0, _tokens(words, run)
    size = min(run.train.micro_batch_size, len(tokens))
    shuffled = np.random.default_rng(run.seed).permutation(tokens)[: len(tokens) // size * size]
    return Lengths(float(shuffled.reshape(-1, size).max(1).mean()), int(tokens.max()), float(images.mean()))


def usual_lengths(words: np.ndarray, run: RunConfig, number: int) -> list[int]:
    """Quantiles of the lengths in tokens, `number` of them; each is long enough for an image."""
    quantiles = (np.arange(number) + 0.5) / number
    tokens = np.maximum(_tokens(words, run), run.model.num_image_tokens + FRAME)
    return np.quantile(tokens, quantiles, method="nearest").round().astype(int).tolist()


def _tokens(words: np.ndarray, run: RunConfig) -> np.ndarray:
    tokens = np.abs(words) * TOKENS_PER_WORD + FRAME + (words > 0) * run.model.num_image_tokens
    return np.minimum(tokens, run.model.max_length)


def sample_flops(shape: Counts, num_layers: int, lengths: Lengths, run: RunConfig) -> float:
    """FLOPs of one training sample as the recipe `paper` executes it.

    Unlike model FLOPs it includes padding, the language head at every position, and the recomputation of
    gradient_checkpointing.
    """
    padded = lengths.padded
    workload = Workload(padded, padded**2, supervised_tokens=padded, images=lengths.with_image)
    recompute = bool(run.train.gradient_checkpointing)
    return step_flops(workload, shape, num_layers=num_layers, lora=run.lora, recompute=recompute)


def expected_seconds(
    words: np.ndarray, run: RunConfig, *, steps: int, flops: Callable[[Workload], float], peak: float, mfu: float
) -> float:
    """Seconds that a number of steps will take at a share `mfu` of `peak` FLOP/s.

    words: as for `lengths_in_tokens`; flops: of the workload of a step, by the shapes of the model.
    """
    tokens = _tokens(words, run)
    size = run.train.global_batch_size * steps / len(tokens)  # how often each sample is seen
    squares = float((tokens**2).sum())
    total = Workload(float(tokens.sum()), squares, float(tokens.sum()) * SUPERVISED, float((words > 0).sum()))
    return size * flops(total) / (peak * mfu)


def gpu_hours(flops: float, gpu: str, expected_mfu: float) -> float | None:
    """Hours on one GPU; None for a GPU whose peak is unknown."""
    peaks = published_facts()["tera_operations"]
    peak = next((value for name, value in peaks.items() if name in gpu), None)
    return None if peak is None else flops / (peak * 1e12 * expected_mfu) / 3600


def memory_gigabytes(shape: Counts, num_layers: int, lengths: Lengths, run: RunConfig, processes: int) -> float:
    """Peak memory of one GPU, in GB, for a micro-batch of the longest samples.

    Counts the weights (partitioned at ZeRO-3, with up to 1e9 gathered at a time), gradients (partitioned from ZeRO-2
    on) and 12 bytes of optimizer state per trained weight (from ZeRO-1 on), the inputs of all decoder layers, the inner
    activations of one layer (of all where gradient_checkpointing is false), 14 bytes per logit (of the positions that
    are learned with supervised_head), and 2 GB for CUDA.
    """
    backbone, size = shape.backbone, 2 if run.train.dtype == "bfloat16" else 4
    stage = 0 if run.engine.name == "torch" else 2 if run.engine.zero_stage is None else run.engine.zero_stage
    tokens = run.train.micro_batch_size * lengths.longest
    trained = shape.trainable_parameters(num_layers, run.lora)
    all_weights = shape.parameters + num_layers * backbone.lora_parameters(run.lora)
    weights = all_weights / processes + min(all_weights, 1e9) if stage == 3 and processes > 1 else all_weights
    gradients = trained * size / (processes if stage >= 2 else 1)
    optimizer = trained * 12 / (processes if stage >= 1 else 1)
    inside = tokens * size * (16 * backbone.hidden + 5 * backbone.intermediate)
    inputs = backbone.num_layers * tokens * size * backbone.hidden
    activations = backbone.num_layers * inside if run.train.gradient_checkpointing is False else inputs + inside
    logits = tokens * (SUPERVISED if run.engine.supervised_head else 1) * backbone.vocabulary
    return (weights * size + gradients + optimizer + activations + 14 * logits) / 1e9 + 2


def disk_gigabytes(trained: int) -> tuple[float, float]:
    """GB of disk that a run needs permanently (its fp32 adapter) and only while it trains (two checkpoints)."""
    return 4 * trained / 1e9, 2 * 16 * trained / 1e9
