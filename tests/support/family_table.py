"""What the tiny checkpoints of current LVLM families differ in: one function each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import transformers

DEPTH = 8  # decoder layers of every family
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.1,  # every layer has something to say
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.1,
}


@dataclass
class Family:
    """What a family's checkpoints differ in.

    tokens: special tokens, the first pads; config: of the model, given the ids of the tokens by name; processor: the
    content of processor_config.json; named: tokens that the processor finds by an attribute of the tokenizer.
    """

    model_type: str
    tokens: list[str]
    end: str
    template: str | None
    config: dict[str, Any]
    pictures: Any  # an image processor
    processor: dict[str, Any]
    begin: str | None = None
    named: dict[str, str] = field(default_factory=dict)


def ids(tokens: list[str], **keys: str) -> dict[str, int]:
    """Ids of special tokens, which come first in the vocabulary, under the keys of a configuration."""
    return {key: tokens.index(token) for key, token in keys.items()}


def pixels(name: str, **settings: Any) -> Any:
    """A picture processor of transformers, on Pillow."""
    return getattr(transformers, name)(**settings)


def parts(picture: str) -> str:
    """The part of a template that writes a message's content."""
    return (
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}" + picture + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    )


def turns(picture: str, before: str, after: str, prompt: str) -> str:
    """A template with text around each message's content, and what asks for an answer."""
    turn = "{% for m in messages %}" + before + parts(picture) + after + "{% endfor %}"
    return turn + "{% if add_generation_prompt %}" + prompt + "{% endif %}"


def chatml(picture: str) -> str:
    return turns(picture, "<|im_start|>{{ m['role'] }}\n", "<|im_end|>\n", "<|im_start|>assistant\n")


def gemma_turns(picture: str, start: str, end: str) -> str:
    role = "{{ 'model' if m['role'] == 'assistant' else m['role'] }}"
    return "{{ bos_token }}" + turns(picture, f"{start}{role}\n", f"{end}\n", f"{start}model\n")


def _qwen(model_type: str, processor: str, text: dict[str, Any], vision: dict[str, Any], patch: int) -> Family:
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    tokens += ["<|image_pad|>", "<|video_pad|>"]
    common = {"patch_size": patch, "temporal_patch_size": 2, "spatial_merge_size": 2, "num_heads": 2, "depth": 4}
    common |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
    return Family(
        model_type,
        tokens,
        end="<|im_end|>",
        template=chatml("<|vision_start|><|image_pad|><|vision_end|>"),
        config={
            "text_config": {**TEXT, **text, "bos_token_id": 0},
            "vision_config": {**common, **vision},
            **ids(
                tokens,
                image_token_id="<|image_pad|>",
                video_token_id="<|video_pad|>",
                vision_start_token_id="<|vision_start|>",
                vision_end_token_id="<|vision_end|>",
            ),
        },
        pictures=pixels(
            "Qwen2VLImageProcessorPil",
            patch_size=patch,
            merge_size=2,
            temporal_patch_size=2,
            min_pixels=56 * 56,
            max_pixels=140 * 140,
        ),
        processor={"processor_class": processor},
    )


def _mrope(section: list[int], **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "mrope_section": section, "rope_theta": 1e6, **settings}}


def qwen2_vl() -> Family:
    vision = {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    return _qwen("qwen2_vl", "Qwen2VLProcessor", _mrope([2, 3, 3]), vision, patch=14)


def qwen2_5_vl() -> Family:
    vision = {"window_size": 112, "fullatt_block_indexes": [1, 3]}
    return _qwen("qwen2_5_vl", "Qwen2_5_VLProcessor", _mrope([2, 3, 3]), vision, patch=14)


def qwen3_vl() -> Family:
    vision = {"num_position_embeddings": 64, "deepstack_visual_indexes": [1, 2, 3]}
    return _qwen("qwen3_vl", "Qwen3VLProcessor", _mrope([2, 3, 3], mrope_interleaved=True), vision, patch=16)


def qwen3_5() -> Family:
    rope = _mrope([1, 1, 0], mrope_interleaved=True, partial_rotary_factor=0.25)
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    heads |= {"linear_key_head_dim": 16, "linear_value_head_dim": 16}
    return _qwen("qwen3_5", "Qwen3VLProcessor", {**rope, **heads}, {"num_position_embeddings": 64}, patch=16)


def glm4v() -> Family:
    tokens = ["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|begin_of_image|>"]
    tokens += ["<|end_of_image|>", "<|image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|video|>"]
    picture = "<|begin_of_image|><|image|><|end_of_image|>"
    vision = {"hidden_size": 32, "intermediate_size": 48, "depth": 4, "num_heads": 2, "out_hidden_size": 64}
    vision |= {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "image_size": 112}
    return Family(
        "glm4v",
        tokens,
        end="<|user|>",
        template="[gMASK]<sop>" + turns(picture, "<|{{ m['role'] }}|>\n", "", "<|assistant|>\n"),
        config={
            "text_config": {**TEXT, **_mrope([1, 1, 2], partial_rotary_factor=0.5)},
            "vision_config": vision,
            **ids(
                tokens,
                image_token_id="<|image|>",
                video_token_id="<|video|>",
                image_start_token_id="<|begin_of_image|>",
                image_end_token_id="<|end_of_image|>",
                video_start_token_id="<|begin_of_video|>",
                video_end_token_id="<|end_of_video|>",
            ),
        },
        pictures=pixels(
            "Glm4vImageProcessorPil",
            patch_size=14,
            merge_size=2,
            temporal_patch_size=2,
            size={"shortest_edge": 56 * 56, "longest_edge": 140 * 140},
        ),
        processor={"processor_class": "Glm4vProcessor"},
    )


def glm46v() -> Family:
    family = glm4v()
    family.model_type, family.processor = "glm46v", {"processor_class": "Glm46VProcessor"}
    sizes = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    limits = {"shortest_edge": 56 * 56, "longest_edge": 140 * 140}
    family.pictures = pixels("Glm46VImageProcessorPil", **sizes, size=limits)
    return family


def _llava(model_type: str, text: str, pictures: Any, processor: dict[str, Any], **config: Any) -> Family:
    tokens = ["<pad>", "<s>", "</s>", "<image>", "<video>"]
    vision = {"model_type": "clip_vision_model", **VISION, "image_size": 56, "patch_size": 14}
    role = "{{ 'USER: ' if m['role'] == 'user' else 'ASSISTANT: ' }}"
    end = "{{ '</s>' if m['role'] == 'assistant' else ' ' }}"
    return Family(
        model_type,
        tokens,
        end="</s>",
        begin="<s>",
        template=turns("<image>\n", role, end, "ASSISTANT:"),
        config={
            "text_config": {"model_type": text, **TEXT},
            "vision_config": vision,
            "image_token_id": tokens.index("<image>"),
            **config,
        },
        pictures=pictures,
        processor=processor,
    )


LLAVA_PROCESSOR = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
TILES = {"image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]]}


def llava_hf() -> Family:
    size = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    processor = {"processor_class": "LlavaProcessor", **LLAVA_PROCESSOR}
    features = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default", "image_seq_length": 16}
    return _llava("llava", "llama", pixels("CLIPImageProcessorPil", **size), processor, **features)


def llava_next() -> Family:
    size = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    processor = {"processor_class": "LlavaNextProcessor", **LLAVA_PROCESSOR}
    return _llava("llava_next", "mistral", pixels("LlavaNextImageProcessorPil", **size, **TILES), processor, **TILES)


def llava_onevision() -> Family:
    pictures = pixels("LlavaOnevisionImageProcessorPil", size={"height": 56, "width": 56}, **TILES)
    processor = {"processor_class": "LlavaOnevisionProcessor", "num_image_tokens": 16}
    processor |= {"vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}
    family = _llava("llava_onevision", "qwen2", pictures, processor, **TILES, vision_aspect_ratio="anyres_max_9")
    family.config["vision_config"] |= {"model_type": "siglip_vision_model", "vision_use_head": False}
    return family
