"""Importance scores of an LVLM's layers, from samples or from weights, and log-likelihoods."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vrx.config.errors import UserError
from vrx.data.batch import MicroBatch
from vrx.data.encoding import IGNORE
from vrx.models.layer_matching import Match, match_layers
from vrx.models.lvlm import decoder, decoder_layers
from vrx.selectors import importance

# Scores with this suffix use the state after the decoder's final norm as the last layer's output, as the released code
# does. The norm changes a state's direction only by its learned weights.
FINAL_NORM = "_final_norm"
STATE_SCORES = {
    "block_influence": importance.block_influence,
    "multimodal_block_influence": importance.multimodal_block_influence,
    "angular_distance_inputs": importance.angular_distance_inputs,
    "angular_distance_inputs_all_tokens": importance.angular_distance_inputs_all_tokens,
}
ATTENTION_SCORES = {
    "image_attention": importance.image_attention,
    "image_attention_share": importance.image_attention_share,
}
WEIGHT_SCORES = {
    "parameter_change": importance.parameter_change,
    "parameter_change_tensors": importance.parameter_change_tensors,
    "parameter_change_norms": importance.parameter_change_norms,
    "angular_distance_weights": importance.angular_distance_weights,
    "angular_distance_weights_whole": importance.angular_distance_weights_whole,
}
ACTIVATION_SCORES = (*STATE_SCORES, *(name + FINAL_NORM for name in STATE_SCORES), *ATTENTION_SCORES)
IMAGE_SCORES = ("multimodal_block_influence", "multimodal_block_influence" + FINAL_NORM, *ATTENTION_SCORES)
HEAD_POSITIONS = 512  # positions that the language head computes at a time


def mean_scores(
    lvlm: LlavaForConditionalGeneration,
    batches: Iterable[MicroBatch],
    *,
    names: Sequence[str] = ACTIVATION_SCORES,
    see: Callable[[dict[str, Tensor]], None] = lambda scores: None,
) -> dict[str, importance.RunningMean]:
    """Activation scores of a set of samples in one pass; of a batch, only sums stay in memory.

    see: called with the scores of each batch, as `activation_scores` returns them.
    """
    means = {name: importance.RunningMean(len(decoder_layers(lvlm))) for name in names}
    for batch in batches:
        scores = activation_scores(lvlm, batch, names=names)
        for name, values in scores.items():
            means[name].add(values)
        see(scores)
    return means


@torch.inference_mode()
def activation_scores(
    lvlm: LlavaForConditionalGeneration, batch: MicroBatch, *, names: Sequence[str] = ACTIVATION_SCORES
) -> dict[str, Tensor]:
    """The named scores of each sample and layer, (batch, layers) fp64 on the CPU, from one forward pass.

    batch: `input_ids`, `attention_mask` (batch, length), padded on either side, and `pixels` (images, 3, H, W) or None,
    from `collate`. States are read by hooks, one layer at a time, because the last of transformers' `hidden_states` is
    after the final norm. `UserError` for unknown names, and for samples without image tokens if IMAGE_SCORES are named.
    """
    _require_known("activation", names, ACTIVATION_SCORES)
    assert not lvlm.training, "the model is in training mode: dropout would change the scores"
    inputs = _inputs(lvlm, batch)
    real = inputs["attention_mask"].bool()
    image = (inputs["input_ids"] == lvlm.config.image_token_id) & real
    without_image = (~image.any(1)).nonzero().flatten().tolist()
    image_scores = [name for name in names if name in IMAGE_SCORES]
    if without_image and image_scores:
        raise UserError(f"samples {without_image} of the batch have no image, so no {', '.join(image_scores)}")
    scores: dict[str, list[Tensor]] = {name: [] for name in names}

    def add_state_scores(is_last: bool, before: Tensor, after: Tensor) -> None:
        normed = decoder(lvlm).norm(after) if is_last else after
        for name in names:
            if name in ATTENTION_SCORES:
                continue
            output = normed if name.endswith(FINAL_NORM) else after
            scores[name].append(STATE_SCORES[name.removesuffix(FINAL_NORM)](before, output, real=real, image=image))

    def add_attention_scores(queries: Tensor, keys: Tensor, mask: Tensor | None, scaling: float) -> None:
        received = importance.attention_received(queries, keys, image=image, real=real, scaling=scaling, mask=mask)
        for name in ATTENTION_SCORES:
            if name in names:
                value = ATTENTION_SCORES[name](received, image=image, real=real, num_heads=queries.shape[1])
                scores[name].append(value)

    attention_watch = (
        _watch_attention(lvlm, add_attention_scores) if set(names) & set(ATTENTION_SCORES) else contextlib.nullcontext()
    )
    with _watch_states(decoder_layers(lvlm), add_state_scores), attention_watch:
        lvlm.model(**inputs, use_cache=False)
    return {name: torch.stack(values, 1).cpu() for name, values in scores.items()}


def _require_known(kind: str, names: Sequence[str], valid: Collection[str]) -> None:
    unknown = [name for name in names if name not in valid]
    if unknown:
        raise UserError(f"{kind} scores {unknown}: valid are {', '.join(valid)}")


def _inputs(model: PreTrainedModel, batch: MicroBatch) -> dict[str, Tensor]:
    assert batch.attention_mask is not None, "the micro-batch must be padded, not packed"
    inputs = {
        "input_ids": batch.input_ids.to(model.device),
        "attention_mask": batch.attention_mask.to(model.device),
    }
    if batch.pixels is not None:
        inputs["pixel_values"] = batch.pixels.to(model.device, model.dtype)
    return inputs


@contextlib.contextmanager
def _watch_states(layers: nn.ModuleList, see: Callable[[bool, Tensor, Tensor], None]) -> Iterator[None]:
    """Call `see` with (is last layer, input, output) of each decoder layer as it runs."""

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        before = args[0] if args else kwargs["hidden_states"]
        see(module is layers[-1], before, output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _watch_attention(
    lvlm: LlavaForConditionalGeneration, see: Callable[[Tensor, Tensor, Tensor | None, float], None]
) -> Iterator[None]:
    """Call `see` with queries and keys (after RoPE), mask and scaling of each decoder layer as it runs.

    Works for every architecture: inside the context, the decoder runs with transformers' `sdpa`, whose function is
    wrapped.
    """
    original = ALL_ATTENTION_FUNCTIONS["sdpa"]
    decoder_modules = {module for layer in decoder_layers(lvlm) for module in layer.modules()}

    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **rest: Any) -> Any:
        if module in decoder_modules:
            see(query, key, mask, rest.get("scaling") or query.shape[-1] ** -0.5)
        return original(module, query, key, value, mask, **rest)

    configs = [decoder(lvlm).config, *(m.config for m in decoder_modules if hasattr(m, "config"))]
    before = [config._attn_implementation for config in configs]
    try:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = attend
        for config in configs:
            config._attn_implementation = "sdpa"
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]  # removes only our override; the library's function is used again
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation


def weight_scores(
    state: Mapping[str, Tensor],
    backbone_state: Mapping[str, Tensor],
    *,
    names: Sequence[str] = tuple(WEIGHT_SCORES),
    watch: Callable[[list[Match]], Iterable[Match]] = iter,
) -> dict[str, list[float]]:
    """The named scores of each decoder layer of an LVLM against its backbone, all its parameters counted.

    Both states may be a `LazyStateDict`, of which one tensor at a time is in memory, or a model's `state_dict()`. LoRA
    must be merged, see `MergedStateDict`, because adapter weights have no counterpart in the backbone. watch: may draw
    a progress bar over the layers.
    """
    _require_known("weight", names, WEIGHT_SCORES)
    scores: dict[str, list[float]] = {name: [] for name in names}
    for match in watch(match_layers(state, backbone_state)):
        deltas = [
            importance.tensor_delta(state[name], backbone_state[backbone_name])
            for name, backbone_name in match.values()
        ]
        for name in names:
            scores[name].append(WEIGHT_SCORES[name](deltas))
    return {name: importance.require_finite(values) for name, values in scores.items()}


@torch.inference_mode()
def negative_log_likelihood(model: PreTrainedModel, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """The sum of -ln p over labelled tokens of each sample, in fp64 nats, and their number, both (batch,) on the CPU.

    model: an LVLM or a plain backbone; its language head runs at counted positions only. batch: as for
    `activation_scores`, with `labels` (batch, length), IGNORE for tokens that are not counted.
    """
    labels = batch.labels[:, 1:].to(model.device)
    hidden = model.model(**_inputs(model, batch), use_cache=False).last_hidden_state[:, :-1]
    counted = labels != IGNORE
    losses = [
        nn.functional.cross_entropy(model.lm_head(states).float(), targets, reduction="none").double()
        for states, targets in zip(
            hidden[counted].split(HEAD_POSITIONS), labels[counted].split(HEAD_POSITIONS), strict=True
        )
    ]
    token_losses = torch.zeros(labels.shape, dtype=torch.float64, device=model.device)
    token_losses[counted] = torch.cat(losses)
    return token_losses.sum(1).cpu(), counted.sum(1).cpu()
