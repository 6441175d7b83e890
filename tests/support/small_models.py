"""Backbones and LVLMs of four layers with random weights, and batches for them."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from vrx.data.batch import MicroBatch
from vrx.models import lazy_state_dict

DEPTH = 4
IMAGE = 63  # the id whose place an image's features take
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,  # every layer has something to say
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
TEXT = {"llama": LlamaConfig, "phi3": Phi3Config, "qwen2": Qwen2Config}


def small_backbone(text="llama", *, seed=0, **changed):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(TEXT[text](**{**SHAPE, **changed})).eval()
    nn.init.uniform_(model.model.norm.weight, 0.5, 2)  # as made, a norm does not turn its input
    return model


def small_lvlm(text="llama", *, seed=0, **changed):
    torch.manual_seed(seed)
    vision = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        image_size=12,
        patch_size=4,
        vision_use_head=False,
    )
    shape = LlavaConfig(
        vision_config=vision,
        text_config=TEXT[text](**{**SHAPE, **changed}),
        image_token_index=IMAGE,
        vision_feature_select_strategy="full",
        image_seq_length=9,
    )
    model = LlavaForConditionalGeneration(shape).eval()
    nn.init.uniform_(model.model.language_model.norm.weight, 0.5, 2)
    model.generation_config.pad_token_id = 0
    return model


def small_batch(*, seed=0, num=3, pad="right"):
    """Prompts of different length, each with one image of nine tokens."""
    made = torch.Generator().manual_seed(seed)
    rows = []
    for number in range(num):
        words = torch.randint(2, IMAGE, (7 + 2 * number,), generator=made).tolist()
        rows.append([1, *words[:3], *[IMAGE] * 9, *words[3:]])
    length = max(map(len, rows))
    padded = [[0] * (length - len(row)) + row if pad == "left" else row + [0] * (length - len(row)) for row in rows]
    ids = torch.tensor(padded)
    mask = torch.tensor([[int(token != 0) for token in row] for row in padded])
    return MicroBatch(ids, ids, attention_mask=mask, pixels=torch.randn(num, 3, 12, 12, generator=made))


def forward_inputs(batch):
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "pixel_values": batch.pixels}


@torch.inference_mode()
def logits(model, *, image=True):
    batch = forward_inputs(small_batch())
    if not image:
        batch = {"input_ids": torch.arange(2, 40).reshape(2, 19)}
    return model(**batch).logits


def small_tokenizer():
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(64)}, unk_token="w2"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", bos_token="w1", unk_token="w2")


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def write(state, folder, kind):
    """The state as a checkpoint folder of the given kind."""
    folder.mkdir()
    suffix = "safetensors" if kind.endswith("safetensors") else "bin"
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    state = {name: tensor.clone() for name, tensor in state.items()}
    save = save_file if suffix == "safetensors" else torch.save
    if not kind.startswith("sharded"):
        save(state, folder / f"{stem}.{suffix}")
        return lazy_state_dict.LazyStateDict(folder)
    weight_map = {name: f"{stem}-{1 + index % 2}.{suffix}" for index, name in enumerate(state)}
    for file in set(weight_map.values()):
        save({name: state[name] for name in state if weight_map[name] == file}, folder / file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return lazy_state_dict.LazyStateDict(folder)


def rows_of(batch):
    """The samples of a batch, each by itself and without padding."""
    for ids, mask, pixels in zip(batch.input_ids, batch.attention_mask, batch.pixels, strict=True):
        ids = ids[mask.bool()][None]
        yield MicroBatch(ids, ids, attention_mask=torch.ones_like(ids), pixels=pixels[None])
