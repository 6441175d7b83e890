"""Importance scores of an LVLM's layers, from samples or from weights, and log-likelihoods."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vrx.config.errors import UserError
from vrx.data.batch import MicroBatch
from vrx.models.layer_matching import Match, match_layers
from vrx.models.lvlm import WITHOUT_PICTURE_TOKENS, decoder, decoder_layers, forward_inputs
from vrx.selectors import importance
from vrx.selectors.formulas import FINAL_NORM

# Scores with this suffix use the state after the decoder's final norm as the last layer's output, as the released code
# does. The norm changes a state's direction only by its learned weights.
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


def formulas(lvlm: PreTrainedModel) -> tuple[str, ...]:
    """The activation scores that an LVLM has: those of image tokens only where pictures have tokens in the text."""
    if lvlm.config.model_type not in WITHOUT_PICTURE_TOKENS:
        return ACTIVATION_SCORES
    return tuple(name for name in ACTIVATION_SCORES if name not in IMAGE_SCORES)


def mean_scores(
    lvlm: PreTrainedModel,
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
    lvlm: PreTrainedModel, batch: MicroBatch, *, names: Sequence[str] = ACTIVATION_SCORES
) -> dict[str, Tensor]:
    """The named scores of each sample and layer, (batch, layers) fp64 on the CPU, from one forward pass.

    A layer without attention, such as one of linear attention, has no attention score: NaN.

    batch: `input_ids`, `attention_mask` (batch, length), padded on either side, and `pixels` (images, 3, H, W) or None,
    from `collate`. States are read by hooks, one layer at a time, because the last of transformers' `hidden_states` is
    after the final norm. `UserError` for unknown names, and for samples without image tokens if IMAGE_SCORES are named.
    """
    if unknown := [name for name in names if name not in ACTIVATION_SCORES]:
        raise UserError(f"activation scores {unknown}: valid are {', '.join(ACTIVATION_SCORES)}")
    assert not lvlm.training, "the model is in training mode: dropout would change the scores"
    inputs = forward_inputs(lvlm, batch)
    real = inputs["attention_mask"].bool()
    image = (inputs["input_ids"] == lvlm.config.image_token_id) & real
    without_image = (~image.any(1)).nonzero().flatten().tolist()
    image_scores = [name for name in names if name in IMAGE_SCORES]
    if without_image and image_scores:
        raise UserError(f"samples {without_image} of the batch have no image, so no {', '.join(image_scores)}")
    depth = len(decoder_layers(lvlm))
    absent = torch.full((len(inputs["input_ids"]),), math.nan, dtype=torch.float64, device=lvlm.device)
    scores: dict[str, list[Tensor]] = {name: [absent] * depth for name in names}

    def add_state_scores(layer: int, before: Tensor, after: Tensor) -> None:
        normed = decoder(lvlm).norm(after) if layer == depth - 1 else after
        for name in names:
            if name in ATTENTION_SCORES:
                continue
            output = normed if name.endswith(FINAL_NORM) else after
            score = STATE_SCORES[name.removesuffix(FINAL_NORM)]
            scores[name][layer] = score(before, output, real=real, image=image)

    def add_attention_scores(layer: int, queries: Tensor, keys: Tensor, **attention: Any) -> None:
        received = importance.attention_received(queries, keys, image=image, real=real, **attention)
        for name in ATTENTION_SCORES:
            if name in names:
                value = ATTENTION_SCORES[name](received, image=image, real=real, num_heads=queries.shape[1])
                scores[name][layer] = value

    attention_watch = (
        _watch_attention(lvlm, add_attention_scores) if set(names) & set(ATTENTION_SCORES) else contextlib.nullcontext()
    )
    with _watch_states(decoder_layers(lvlm), add_state_scores), attention_watch:
        lvlm.base_model(**inputs, use_cache=False)
    return {name: torch.stack(values, 1).cpu() for name, values in scores.items()}


@contextlib.contextmanager
def _watch_states(layers: nn.ModuleList, see: Callable[[int, Tensor, Tensor], None]) -> Iterator[None]:
    """Call `see` with (layer, input, output) of each decoder layer as it runs."""
    numbers = {layer: number for number, layer in enumerate(layers)}

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        before = args[0] if args else kwargs["hidden_states"]
        see(numbers[module], before, output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _watch_attention(lvlm: PreTrainedModel, see: Callable[..., None]) -> Iterator[None]:
    """Call `see` with layer, queries and keys (after RoPE), mask, scaling and cap of each decoder layer as it runs.

    Works for every architecture: inside the context, the decoder runs with transformers' `sdpa`, whose function is
    wrapped, or where scores are capped with its `eager`, as `sdpa` has no cap. Attention to other states than the
    layer's own, as in layers of cross-attention, is no attention among the tokens and not seen.
    """
    layer_of = {module: number for number, layer in enumerate(decoder_layers(lvlm)) for module in layer.modules()}
    is_capped = getattr(decoder(lvlm).config, "attn_logit_softcapping", None) is not None
    implementation = "eager" if is_capped else "sdpa"
    original: Any = ALL_ATTENTION_FUNCTIONS.get(implementation)  # `eager` is a function of each model's module

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,  # towers pass it by its name
        **rest: Any,
    ) -> Any:
        if module in layer_of and query.shape[-2] == key.shape[-2]:
            scaling = rest.get("scaling") or query.shape[-1] ** -0.5
            see(layer_of[module], query, key, mask=attention_mask, scaling=scaling, cap=rest.get("softcap"))
        attention = original or sys.modules[type(module).__module__].eager_attention_forward
        return attention(module, query, key, value, attention_mask, **rest)

    configs = [decoder(lvlm).config, *(m.config for m in layer_of if hasattr(m, "config"))]
    before = [config._attn_implementation for config in configs]
    try:
        ALL_ATTENTION_FUNCTIONS[implementation] = attend
        for config in configs:
            config._attn_implementation = implementation
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS[implementation]  # removes only our override; the library's is used again
        for config, attention in zip(configs, before, strict=True):
            config._attn_implementation = attention


def weight_scores(
    state: Mapping[str, Tensor],
    backbone_state: Mapping[str, Tensor],
    *,
    path: str | None = None,
    watch: Callable[[list[Match]], Iterable[Match]] = iter,
) -> dict[str, list[float]]:
    """The WEIGHT_SCORES of each decoder layer of an LVLM against its backbone, all its parameters counted.

    Both states may be a `LazyStateDict`, of which one tensor at a time is in memory, or a model's `state_dict()`. LoRA
    must be merged, see `MergedStateDict`, because adapter weights have no counterpart in the backbone. path: of the
    decoder layers, as for `match_layers`. watch: may draw a progress bar over the layers.
    """
    scores: dict[str, list[float]] = {name: [] for name in WEIGHT_SCORES}
    for match in watch(match_layers(state, backbone_state, path=path)):
        deltas = [
            importance.tensor_delta(state[name], backbone_state[backbone_name])
            for name, backbone_name in match.values()
        ]
        for name, score in WEIGHT_SCORES.items():
            scores[name].append(score(deltas))
    return {name: importance.require_finite(values) for name, values in scores.items()}
