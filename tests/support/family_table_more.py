"""What the tiny checkpoints of further LVLM families differ in; see `family_table`."""

from __future__ import annotations

from typing import Any

from support.family_table import TEXT, VISION, Family, chatml, gemma_turns, ids, pixels, turns

WINDOWS = {"sliding_window": 12, "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 2}


def internvl() -> Family:
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    size = {"size": {"height": 56, "width": 56}}
    return Family(
        "internvl",
        tokens,
        end="<|im_end|>",
        template=chatml("<IMG_CONTEXT>\n"),
        config={
            "text_config": {"model_type": "qwen3", **TEXT},
            "vision_config": {**VISION, "image_size": [56, 56], "patch_size": [14, 14]},
            "image_token_id": tokens.index("<IMG_CONTEXT>"),
            "downsample_ratio": 0.5,
            "image_seq_length": 4,
        },
        pictures=pixels("GotOcr2ImageProcessorPil", **size, crop_to_patches=True, min_patches=1, max_patches=4),
        processor={"processor_class": "InternVLProcessor", "image_seq_length": 4},
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )


def _idefics(model_type: str, processor: str, pictures: str) -> Family:
    tokens = ["<pad>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>"]
    tokens += [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    role, end = "{{ m['role'] | capitalize }}: ", "<end_of_utterance>\n"
    return Family(
        model_type,
        tokens,
        end="<end_of_utterance>",
        begin="<|im_start|>",
        template="{{ bos_token }}" + turns("<image>", role, end, "Assistant:"),
        config={
            "text_config": {"model_type": "llama", **TEXT},
            "vision_config": {**VISION, "image_size": 56, "patch_size": 14},
            "image_token_id": tokens.index("<image>"),
            "scale_factor": 2,
            "pad_token_id": 0,
        },
        pictures=pixels(pictures, size={"longest_edge": 112}, max_image_size={"longest_edge": 56}),
        processor={"processor_class": processor, "image_seq_len": 4},
        named={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )


def idefics3() -> Family:
    return _idefics("idefics3", "Idefics3Processor", "Idefics3ImageProcessorPil")


def smolvlm() -> Family:
    return _idefics("smolvlm", "SmolVLMProcessor", "SmolVLMImageProcessorPil")


def gemma3() -> Family:
    tokens = ["<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    tokens += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    return Family(
        "gemma3",
        tokens,
        end="<end_of_turn>",
        begin="<bos>",
        template=gemma_turns("<start_of_image>", "<start_of_turn>", "<end_of_turn>"),
        config={
            "text_config": {**TEXT, **WINDOWS, "query_pre_attn_scalar": 16},
            "vision_config": {**VISION, "image_size": 56, "patch_size": 14, "vision_use_head": False},
            "mm_tokens_per_image": 4,
            **ids(
                tokens,
                boi_token_index="<start_of_image>",
                eoi_token_index="<end_of_image>",
                image_token_index="<image_soft_token>",
            ),
        },
        pictures=pixels("Gemma3ImageProcessorPil", size={"height": 56, "width": 56}, image_seq_length=4),
        processor={"processor_class": "Gemma3Processor", "image_seq_length": 4},
        named=named,
    )


def gemma4() -> Family:
    named = {"boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>", "video_token": "<|video|>"}
    named |= {"audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"}
    tokens = ["<pad>", "<bos>", "<eos>", "<|turn>", "<turn|>", *named.values()]
    keys = {key.replace("_token", "_token_id"): token for key, token in named.items() if key != "eoa_token"}
    layers = {"global_head_dim": 16, "num_global_key_value_heads": 2, "num_kv_shared_layers": 2}
    layers |= {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 512}
    vision = {"num_key_value_heads": 2, "head_dim": 16, "patch_size": 16, "pooling_kernel_size": 3}
    return Family(
        "gemma4",
        tokens,
        end="<turn|>",
        begin="<bos>",
        template=gemma_turns("<|image|>", "<|turn>", "<turn|>"),
        config={
            "text_config": {**TEXT, **WINDOWS, **layers},
            "vision_config": {**VISION, **vision, "position_embedding_size": 64},
            "audio_config": None,
            **ids(tokens, **keys, eoa_token_index="<audio|>"),
        },
        pictures=pixels("Gemma4ImageProcessorPil", patch_size=16, max_soft_tokens=70, pooling_kernel_size=3),
        processor={"processor_class": "Gemma4Processor"},
        named=named,
    )


def paligemma() -> Family:
    tokens = ["<pad>", "<bos>", "<eos>", "<image>"]
    pictures = pixels("SiglipImageProcessorPil", size={"height": 56, "width": 56})
    pictures.image_seq_length = 16
    return Family(
        "paligemma",
        tokens,
        end="<eos>",
        begin="<bos>",
        template=None,  # as the released ones
        config={
            "text_config": {
                "model_type": "gemma2",
                **TEXT,
                "sliding_window": 4096,
                "query_pre_attn_scalar": 16,
                "attn_logit_softcapping": 1.0,  # so low that it bends scores of these small weights
            },
            "vision_config": {
                "model_type": "siglip_vision_model",
                **VISION,
                "image_size": 56,
                "patch_size": 14,
                "vision_use_head": False,
            },
            "image_token_index": tokens.index("<image>"),
            "projection_dim": 64,
        },
        pictures=pictures,
        processor={"processor_class": "PaliGemmaProcessor"},
        named={"image_token": "<image>"},
    )


def mllama() -> Family:
    tokens = ["<|finetune_right_pad_id|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>"]
    tokens += ["<|end_header_id|>", "<|image|>", "<|python_tag|>"]
    header = "<|start_header_id|>{role}<|end_header_id|>\n\n"
    ratios = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
    vision: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
    vision |= {"num_global_layers": 2, "attention_heads": 2, "image_size": 56, "patch_size": 14, "max_num_tiles": 4}
    vision |= {"intermediate_layers_indices": [1, 2], "supported_aspect_ratios": ratios, "vision_output_dim": 96}
    return Family(
        "mllama",
        tokens,
        end="<|eot_id|>",
        begin="<|begin_of_text|>",
        template="{{ bos_token }}"
        + turns(
            "<|image|>",
            header.replace("{role}", "{{ m['role'] }}"),
            "<|eot_id|>",
            header.replace("{role}", "assistant"),
        ),
        config={
            "text_config": {
                **TEXT,
                "cross_attention_layers": [2, 5],
                "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
            },
            "vision_config": vision,
            "image_token_index": tokens.index("<|image|>"),
        },
        pictures=pixels("MllamaImageProcessorPil", size={"height": 56, "width": 56}, max_image_tiles=4),
        processor={"processor_class": "MllamaProcessor"},
    )


def mistral3() -> Family:
    tokens = ["<pad>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    before = "{{ '[INST]' if m['role'] == 'user' else '' }}"
    after = "{{ '[/INST]' if m['role'] == 'user' else '</s>' }}"
    return Family(
        "mistral3",
        tokens,
        end="</s>",
        begin="<s>",
        template="{{ bos_token }}" + turns("[IMG]", before, after, ""),
        config={
            "text_config": {"model_type": "mistral", **TEXT, "sliding_window": None},
            "vision_config": {"model_type": "pixtral", **VISION, "head_dim": 16, "image_size": 112, "patch_size": 14},
            "image_token_index": tokens.index("[IMG]"),
            "spatial_merge_size": 2,
            "vision_feature_layer": -1,
        },
        pictures=pixels("PixtralImageProcessorPil", size={"longest_edge": 112}, patch_size={"height": 28, "width": 28}),
        processor={"processor_class": "PixtralProcessor", "patch_size": 14, "spatial_merge_size": 2},
    )


def aya_vision() -> Family:
    tokens = ["<pad>", "<s>", "<|end|>", "<image>", "<|IMG_PATCH|>", "<|START_OF_IMG|>", "<|END_OF_IMG|>"]
    tokens += ["TILE_GLOBAL", *(f"TILE_{number}" for number in range(1, 5)), "<|user|>", "<|assistant|>"]
    return Family(
        "aya_vision",
        tokens,
        end="<|end|>",
        begin="<s>",
        template="{{ bos_token }}" + turns("<image>", "<|{{ m['role'] }}|>", "<|end|>", "<|assistant|>"),
        config={
            "text_config": {"model_type": "cohere2", **TEXT, **WINDOWS},
            "vision_config": {
                "model_type": "siglip_vision_model",
                **VISION,
                "image_size": 56,
                "patch_size": 14,
                "vision_use_head": False,
            },
            "image_token_index": tokens.index("<|IMG_PATCH|>"),
        },
        pictures=pixels("GotOcr2ImageProcessorPil", size={"height": 56, "width": 56}, min_patches=1, max_patches=4),
        processor={"processor_class": "AyaVisionProcessor", "patch_size": 14, "img_size": 56, "downsample_factor": 2},
    )
