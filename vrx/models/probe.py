"""Importance scores of an LVLM's layers from samples or from weights, and log-likelihoods."""

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
from vrx.models.layer_matching import match_layers
from vrx.models.lvlm import decoder_layers
from vrx.selectors import importance

# These take the state after the decoder's final norm for the last layer's output, as the released code does. The norm
# turns a state by its learned weights alone; on its own it would only change the length.
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
HEAD_POSITIONS = 512  # that the language head works on at a time


def mean_scores(
    lvlm: LlavaForConditionalGeneration,
    batches: Iterable[MicroBatch],
    *,
    names: Sequence[str] = ACTIVATION_SCORES,
    see: Callable[[dict[str, Tensor]], None] = lambda found: None,
) -> dict[str, importance.RunningMean]:
    """All activation scores of a set of samples in one pass; nothing is kept of a batch but its sums.

    `see` is shown the scores of each batch, as `activation_scores` gives them.
    """
    means = {name: importance.RunningMean(len(decoder_layers(lvlm))) for name in names}
    for batch in batches:
        found = activation_scores(lvlm, batch, names=names)
        for name, values in found.items():
            means[name].add(values)
        see(found)
    return means


@torch.inference_mode()
def activation_scores(
    lvlm: LlavaForConditionalGeneration, batch: MicroBatch, *, names: Sequence[str] = ACTIVATION_SCORES
) -> dict[str, Tensor]:
    """The named scores of each sample and layer, (batch, layers) fp64 on the CPU, from one forward pass.

    batch: `input_ids`, `attention_mask` (batch, length), padded on either side, and `pixels` (images, 3, H, W) or None,
    as `collate` makes it. States are read by hooks, one layer at a time: the last of transformers' own
    `hidden_states` is after the final norm. A sample without image tokens has no score that speaks of images.
    """
    _refuse_unknown("activation", names, ACTIVATION_SCORES)
    assert not lvlm.training, "scores of a model in training mode: dropout would be in them"
    inputs = _inputs(lvlm, batch)
    real = inputs["attention_mask"].bool()
    image = (inputs["input_ids"] == lvlm.config.image_token_id) & real
    blind = (~image.any(1)).nonzero().flatten().tolist()
    if blind and set(names) & set(IMAGE_SCORES):
        raise UserError(f"samples {blind} of the batch hold no image: no {', '.join(set(names) & set(IMAGE_SCORES))}")
    found: dict[str, list[Tensor]] = {name: [] for name in names}

    def states(last: bool, before: Tensor, after: Tensor) -> None:
        normed = lvlm.model.language_model.norm(after) if last else after
        for name in names:
            if name in ATTENTION_SCORES:
                continue
            output = normed if name.endswith(FINAL_NORM) else after
            found[name].append(STATE_SCORES[name.removesuffix(FINAL_NORM)](before, output, real=real, image=image))

    def attention(queries: Tensor, keys: Tensor, mask: Tensor | None, scaling: float) -> None:
        received = importance.attention_received(queries, keys, image=image, real=real, scaling=scaling, mask=mask)
        for name in ATTENTION_SCORES:
            if name in names:
                value = ATTENTION_SCORES[name](received, image=image, real=real, num_heads=queries.shape[1])
                found[name].append(value)

    watched = _watched_attention(lvlm, attention) if set(names) & set(ATTENTION_SCORES) else contextlib.nullcontext()
    with _watched_states(decoder_layers(lvlm), states), watched:
        lvlm.model(**inputs, use_cache=False)
    return {name: torch.stack(values, 1).cpu() for name, values in found.items()}


def _refuse_unknown(kind: str, names: Sequence[str], valid: Collection[str]) -> None:
    unknown = [name for name in names if name not in valid]
    if unknown:
        raise UserError(f"{kind} scores {unknown}: valid are {', '.join(valid)}")


def _inputs(model: PreTrainedModel, batch: MicroBatch) -> dict[str, Tensor]:
    assert batch.attention_mask is not None, "a padded micro-batch, not a packed one"
    inputs = {
        "input_ids": batch.input_ids.to(model.device),
        "attention_mask": batch.attention_mask.to(model.device),
    }
    if batch.pixels is not None:
        inputs["pixel_values"] = batch.pixels.to(model.device, model.dtype)
    return inputs


@contextlib.contextmanager
def _watched_states(layers: nn.ModuleList, see: Callable[[bool, Tensor, Tensor], None]) -> Iterator[None]:
    """Show each decoder layer's input and output as it runs."""

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
def _watched_attention(
    lvlm: LlavaForConditionalGeneration, see: Callable[[Tensor, Tensor, Tensor | None, float], None]
) -> Iterator[None]:
    """Show each decoder layer's queries and keys (after RoPE), mask and scaling as it runs.

    They are those of the layer itself, whatever its architecture: inside, transformers' `sdpa` passes here first, and
    the decoder runs with it, however it was loaded.
    """
    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]
    ours = {module for layer in decoder_layers(lvlm) for module in layer.modules()}

    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **rest: Any) -> Any:
        if module in ours:
            see(query, key, mask, rest.get("scaling") or query.shape[-1] ** -0.5)
        return plain(module, query, key, value, mask, **rest)

    configs = [lvlm.model.language_model.config, *(m.config for m in ours if hasattr(m, "config"))]
    before = [config._attn_implementation for config in configs]
    try:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = attend
        for config in configs:
            config._attn_implementation = "sdpa"
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]  # ours was laid over the library's, which shows again
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation


def weight_scores(
    state: Mapping[str, Tensor],
    backbone_state: Mapping[str, Tensor],
    *,
    names: Sequence[str] = tuple(WEIGHT_SCORES),
    watch: Callable[[list[Any]], Iterable[Any]] = iter,
) -> dict[str, list[float]]:
    """The named scores of each decoder layer of an LVLM against its backbone, all its parameters counted.

    With a `LazyStateDict` one tensor of each is in memory at a time; a model's `state_dict()` works too. LoRA must be
    merged, see `MergedStateDict`: an adapter's own weights have no counterpart in the backbone. `watch` may draw a
    progress bar over the layers.
    """
    _refuse_unknown("weight", names, WEIGHT_SCORES)
    found: dict[str, list[float]] = {name: [] for name in names}
    for match in watch(match_layers(state, backbone_state)):
        changes = [importance.tensor_delta(state[here], backbone_state[there]) for here, there in match.values()]
        for name in names:
            found[name].append(WEIGHT_SCORES[name](changes))
    return {name: importance.require_finite(scores) for name, scores in found.items()}


@torch.inference_mode()
def negative_log_likelihood(model: PreTrainedModel, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """Of each sample: the sum over labelled tokens of -ln p in fp64 nats, and their number, both (batch,) on the CPU.

    batch: as for `activation_scores`, with `labels` (batch, length), IGNORE where a token is not counted. An LVLM or a
    plain backbone; the language head works at counted positions only.
    """
    labels = batch.labels[:, 1:].to(model.device)
    hidden = model.model(**_inputs(model, batch), use_cache=False).last_hidden_state[:, :-1]
    counted = labels != IGNORE
    losses = [
        nn.functional.cross_entropy(model.lm_head(states).float(), wanted, reduction="none").double()
        for states, wanted in zip(
            hidden[counted].split(HEAD_POSITIONS), labels[counted].split(HEAD_POSITIONS), strict=True
        )
    ]
    spread = torch.zeros(labels.shape, dtype=torch.float64, device=model.device)
    spread[counted] = torch.cat(losses)
    return spread.sum(1).cpu(), counted.sum(1).cpu()
