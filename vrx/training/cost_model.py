"""What a fine-tune will cost, reckoned before it begins: operations, hours, memory, disk. Orders, not promises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vrx.config.schema import RunConfig
from vrx.models.architecture import ParameterCounts, official

TOKENS_PER_WORD = 1.4  # of the data's English, in Llama's vocabulary
FRAME = 40  # tokens of the system's sentence and the roles
FORMULA = (
    "operations a token: 2 a weight forward, as many backward (and forward again with gradient_checkpointing), "
    "6 (8) a LoRA and projector weight, attention 2 x length x width forward; hours: operations / "
    "(check.expected_mfu x the GPU's dense bf16 peak)"
)


@dataclass(frozen=True)
class Lengths:
    """Of samples in tokens: as they are padded in a micro-batch on average, the longest, and the share with images."""

    padded: float
    longest: int
    with_image: float


def lengths_in_tokens(words: np.ndarray, run: RunConfig) -> Lengths:
    """From the words of every sample, (samples,), negative where there is no image."""
    images, tokens = words > 0, _tokens(words, run)
    size = min(run.train.micro_batch_size, len(tokens))
    shuffled = np.random.default_rng(run.seed).permutation(tokens)[: len(tokens) // size * size]
    return Lengths(float(shuffled.reshape(-1, size).max(1).mean()), int(tokens.max()), float(images.mean()))


def usual_lengths(words: np.ndarray, run: RunConfig, number: int) -> list[int]:
    """So many lengths in tokens that stand for those of all samples: their quantiles. Each has room for an image."""
    places = (np.arange(number) + 0.5) / number
    tokens = np.maximum(_tokens(words, run), run.model.num_image_tokens + FRAME)
    return np.quantile(tokens, places, method="nearest").round().astype(int).tolist()


def _tokens(words: np.ndarray, run: RunConfig) -> np.ndarray:
    tokens = np.abs(words) * TOKENS_PER_WORD + FRAME + (words > 0) * run.model.num_image_tokens
    return np.minimum(tokens, run.model.max_length)


def sample_flops(shape: ParameterCounts, num_layers: int, lengths: Lengths, run: RunConfig) -> float:
    """Floating-point operations of one sample of training: forward, backward, recomputation."""
    backbone, tower, passes = shape.backbone, shape.tower, 3 if run.train.gradient_checkpointing else 2
    attention = 2 * lengths.padded * backbone.hidden
    decoder = backbone.num_layers * (2 * backbone.layer_parameters * passes + attention * (passes + 1))
    head = 2 * backbone.vocabulary * backbone.hidden * 2
    lora = 2 * num_layers * backbone.lora_parameters(run.lora.r) * (passes + 1)
    image = 2 * tower.num_patches * tower.parameters + 6 * run.model.num_image_tokens * shape.projector_parameters
    return lengths.padded * (decoder + head + lora) + lengths.with_image * image


def gpu_hours(total_operations: float, gpu: str, expected_mfu: float) -> float | None:
    """Hours of one GPU; None for a GPU whose peak is not known."""
    peaks = official()["tera_operations"]
    peak = next((value for name, value in peaks.items() if name in gpu), None)
    return None if peak is None else total_operations / (peak * 1e12 * expected_mfu) / 3600


def memory_gigabytes(
    shape: ParameterCounts, num_layers: int, lengths: Lengths, run: RunConfig, processes: int
) -> float:
    """Peak of one GPU, at a micro-batch of the longest samples.

    Weights (shared among the GPUs at ZeRO-3, with up to 1e9 gathered at a time), gradients and 12 bytes of optimizer
    a trained weight (shared at ZeRO-2 and ZeRO-1), the inputs of all decoder layers and the inside of one of them (of
    all without gradient_checkpointing), 14 bytes a logit, 2 GB for CUDA.
    """
    backbone, size = shape.backbone, 2 if run.train.dtype == "bfloat16" else 4
    stage = 0 if run.engine.name == "torch" else 2 if run.engine.zero_stage is None else run.engine.zero_stage
    tokens = run.train.micro_batch_size * lengths.longest
    trained = shape.trainable_parameters(num_layers, run.lora.r)
    all_weights = shape.parameters + num_layers * backbone.lora_parameters(run.lora.r)
    weights = all_weights / processes + min(all_weights, 1e9) if stage == 3 and processes > 1 else all_weights
    gradients = trained * size / (processes if stage >= 2 else 1)
    optimizer = trained * 12 / (processes if stage >= 1 else 1)
    inside = tokens * size * (16 * backbone.hidden + 5 * backbone.intermediate)
    inputs = backbone.num_layers * tokens * size * backbone.hidden
    activations = inputs + inside if run.train.gradient_checkpointing else backbone.num_layers * inside
    return (weights * size + gradients + optimizer + activations + 14 * tokens * backbone.vocabulary) / 1e9 + 2


def disk_gigabytes(trained: int) -> tuple[float, float]:
    """What a run keeps (its adapter, fp32) and what it needs besides while it trains (two checkpoints)."""
    return 4 * trained / 1e9, 2 * 16 * trained / 1e9
