"""The architectures of transformers that vrx tunes: what it must know of each beyond what transformers tells.

`model.architecture` names a function of this module, after the checkpoint's `model_type`. The decoder, its layers, the
head and the id of the image token come from the model itself. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

FULL = "full_attention"  # the kind of a decoder layer that looks at all tokens before
MERGER = ("model.visual.merger",)  # a part of the tower
NEWLINE = ("model.multi_modal_projector", "model.image_newline")
Config = Any  # of transformers, with `get_text_config()`


def _no_layers(config: Config) -> set[int]:
    return set()


def _layer_types(config: Config) -> list[str]:
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    return list(kinds) if kinds and len(kinds) == text.num_hidden_layers else [FULL] * text.num_hidden_layers


def _nothing(model: Any, kept: Sequence[int] = ()) -> None:
    return None


@dataclass(frozen=True)
class Architecture:
    """What transformers does not tell of a model.

    connector: paths of the modules or parameters that join tower and decoder, trained where `train.connector` is true.
    packing: how samples share one row: `plain`, by our attention within each sample; `masked`, by transformers' masks
    from the position ids; `padded`, not at all, as the model mixes what it reads in other ways than by attention, or
    its mask knows one prefix. eager: attention scores are capped, which only transformers' eager attention does.
    pinned: layers that cannot be cut without changing what the others compute. after_cut: mends what depends on the
    numbers of the layers; it gets the model and the numbers that the kept layers had. after_load: mends what
    transformers computes otherwise for a sample in a batch than for the sample alone. model_type: of the checkpoint,
    where it is not the row's name. kinds: of every decoder layer, by default transformers' `layer_types`.
    """

    connector: tuple[str, ...] = ("model.multi_modal_projector",)
    packing: Literal["plain", "masked", "padded"] = "plain"
    eager: bool = False
    pinned: Callable[[Config], set[int]] = _no_layers
    after_cut: Callable[[Any, Sequence[int]], None] = _nothing
    after_load: Callable[[Any], None] = _nothing
    model_type: str | None = None
    kinds: Callable[[Config], list[str]] = _layer_types


def llava_hf() -> Architecture:
    """LLaVA-1.5 as llava-hf stores it: what this path computes is compared with the path of `llava`."""
    return Architecture(model_type="llava")


def llava_next() -> Architecture:
    """LLaVA-1.6: pictures in tiles; the vector that ends a row of patches belongs to the connector."""
    return Architecture(NEWLINE)


def llava_onevision() -> Architecture:
    """As LLaVA-NeXT, with a SigLIP tower and Qwen2."""
    return Architecture(NEWLINE)


def qwen2_vl() -> Architecture:
    """Pictures of any size, positions of three axes (M-RoPE); the merger is a part of the tower."""
    return Architecture(MERGER)


def qwen2_5_vl() -> Architecture:
    """As Qwen2-VL; without the types of the tokens its positions would be those of a text, without an error."""
    return Architecture(MERGER)


def qwen3_vl() -> Architecture:
    """As Qwen2.5-VL; features of several tower layers are added after the first decoder layers, by their number."""
    return Architecture((*MERGER, "model.visual.deepstack_merger_list"), pinned=_deepstack_layers)


def qwen3_5() -> Architecture:
    """Three of four layers have linear attention, whose state does not know where a sample of a row ends."""
    return Architecture(MERGER, packing="padded")


def glm4v() -> Architecture:
    """GLM-4.1V: as Qwen2.5-VL; a turn ends in the token of the next role."""
    return Architecture(MERGER)


def glm46v() -> Architecture:
    """GLM-4.6V: as GLM-4.1V."""
    return Architecture(MERGER)


def internvl() -> Architecture:
    """InternVL3 and 3.5 in the layout of their -HF checkpoints: pictures in tiles."""
    return Architecture()


def idefics3() -> Architecture:
    """Pictures in tiles with marks of row and column."""
    return Architecture(("model.connector",))


def smolvlm() -> Architecture:
    """SmolVLM2: as Idefics3."""
    return Architecture(("model.connector",))


def gemma3() -> Architecture:
    """Tokens of a picture see each other; five of six layers see a window only."""
    return Architecture(packing="masked")


def gemma4() -> Architecture:
    """As Gemma 3; the last layers take keys and values of earlier ones, and layers may have inputs of their own."""
    return Architecture(("model.embed_vision",), packing="masked", pinned=_shared_layers, after_cut=_cut_layer_inputs)


def paligemma() -> Architecture:
    """PaliGemma 2: one prefix that sees itself, which a row of several samples does not have; capped scores."""
    return Architecture(packing="padded", eager=True)


def mllama() -> Architecture:
    """Llama 3.2 Vision: some layers attend to the picture, which has no tokens of its own in the text."""
    return Architecture(
        packing="padded", after_cut=_renumber_cross_layers, after_load=_hide_pictures_from_texts, kinds=_mllama_kinds
    )


def mistral3() -> Architecture:
    """Mistral Small 3 with Pixtral's tower: pictures of any size."""
    return Architecture()


def aya_vision() -> Architecture:
    """Aya Vision: pictures in tiles; three of four layers of Cohere 2 see a window only."""
    return Architecture(packing="masked")


def _deepstack_layers(config: Config) -> set[int]:
    return set(range(len(config.vision_config.deepstack_visual_indexes)))


def _shared_layers(config: Config) -> set[int]:
    """The layers whose keys and values later layers take, and the last, which is always one of full attention."""
    text = config.get_text_config()
    depth, shared = text.num_hidden_layers, text.num_kv_shared_layers or 0
    last_of_kind = {text.layer_types[layer]: layer for layer in range(depth - shared)}
    taken = {layer for kind, layer in last_of_kind.items() if kind in text.layer_types[depth - shared :]}
    return taken | {depth - 1}


def _cut_layer_inputs(model: Any, kept: Sequence[int]) -> None:
    """Keep the rows and columns of the kept layers in the tensors that hold an input for every layer."""
    decoder = model.get_decoder()
    text, width = model.config.get_text_config(), decoder.config.hidden_size_per_layer_input
    layers = {id(config): config for config in (text, decoder.config)}.values()
    depth = max(kept) + 1  # the last layer cannot be cut
    if width:
        embeddings, projection = decoder.embed_tokens_per_layer, decoder.per_layer_model_projection
        rows = [row for layer in kept for row in range(layer * width, (layer + 1) * width)]
        embeddings.weight.data = embeddings.weight.data[:, rows].clone()
        embeddings.embedding_dim = len(rows)
        projection.weight.data = projection.weight.data[rows].clone()
        projection.out_features = len(rows)
    for config in layers:
        first_shared = depth - (config.num_kv_shared_layers or 0)
        config.num_kv_shared_layers = sum(layer >= first_shared for layer in kept)


def _renumber_cross_layers(model: Any, kept: Sequence[int]) -> None:
    """Give the layers that attend to the picture their new numbers."""
    decoder = model.get_decoder()
    numbers = [kept.index(layer) for layer in decoder.cross_attention_layers if layer in kept]
    decoder.cross_attention_layers = numbers
    for config in {id(config): config for config in (model.config.get_text_config(), decoder.config)}.values():
        config.cross_attention_layers = list(numbers)


def _hide_pictures_from_texts(model: Any) -> None:
    """Let a sample without pictures see none, also beside samples with pictures.

    In a batch with pictures, transformers gives the tokens of such a sample the mean of what all pictures hold.
    """

    def note(layer: Any, args: Any, kwargs: dict[str, Any]) -> None:
        seeing = kwargs["full_text_row_masked_out_mask"]  # (batch, 1, length, 1), 0 at tokens that see no picture
        layer.cross_attn.sample_sees = None if seeing is None else seeing[:, 0].amax(1, keepdim=True)

    def hide(attention: Any, args: Any, output: Any) -> Any:
        sees = attention.sample_sees
        return output if sees is None else (output[0] * sees, *output[1:])

    decoder = model.get_decoder()
    for layer in decoder.cross_attention_layers:
        decoder.layers[layer].register_forward_pre_hook(note, with_kwargs=True)
        decoder.layers[layer].cross_attn.register_forward_hook(hide)


def _mllama_kinds(config: Config) -> list[str]:
    text = config.get_text_config()
    layers = range(text.num_hidden_layers)
    return ["cross_attention" if layer in text.cross_attention_layers else FULL for layer in layers]
