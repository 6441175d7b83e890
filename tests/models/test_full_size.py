"""The paper's four LVLMs in full size without weights, and a training step of narrow ones."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.composing import composed
from support.official import GOLDEN
from transformers import AutoConfig, AutoModelForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from vrx.data.batch import collate
from vrx.data.images.processing import Pixels
from vrx.data.instructions import dataset
from vrx.data.instructions.encoding import IGNORE
from vrx.models import loading, lora
from vrx.models.assemble import TOWERS
from vrx.models.lvlm import decoder_layers
from vrx.selectors import rules
from vrx.training import engine
from vrx.training.loss import LvlmWithLoss, num_supervised

# The fields of each part's config.json that its shape and numerics depend on, by hub id.
CONFIGURATIONS = json.loads((Path(__file__).parents[1] / "golden" / "configurations.json").read_text())
TRAINABLE = {  # layers tuned: parameters, with LoRA of rank 128 and the projector
    "llava-1.5-7b": {8: 100_933_632, 32: 340_795_392},
    "llava-1.5-13b": {9: 144_123_904, 40: 532_162_560},
    "bunny-llama3-8b": {8: 105_390_080, 32: 357_048_320},
    "bunny-phi3-mini-4b": {8: 63_313_920, 32: 214_308_864},
}
TOKENIZERS = {"vicuna_v1": "vicuna_like", "bunny_llama3": "llama3_like", "bunny_phi3": "phi3_like"}


@cache
def configured(name: str):
    return composed([f"model={name}", "recipe=paper"])


def part(name: str, **changes):
    return AutoConfig.for_model(**CONFIGURATIONS[name] | changes)


@pytest.mark.parametrize("name", TRAINABLE)
def test_number_of_trainable_parameters_is_the_papers(name):
    run = configured(name)
    for number, expected in TRAINABLE[name].items():
        with torch.device("meta"):
            lvlm = LlavaForConditionalGeneration(
                LlavaConfig(text_config=part(run.model.backbone), vision_config=part(run.model.vision_tower))
            )
            assert len(decoder_layers(lvlm)) == run.model.num_layers
            lora.apply_lora(lvlm, rules.sparse_uniform(run.model.num_layers, number), run.lora)
        assert sum(tensor.numel() for tensor in lora.trainable_parameters(lvlm).values()) == expected


@pytest.mark.parametrize("name", TRAINABLE)
def test_full_size_lvlm_takes_a_training_step(name):
    """In bf16 with activation checkpointing, on a GPU with room for random weights, else on meta tensors."""
    run = configured(name)
    fits_gpu = torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory > 75e9
    take_a_step(run, part(run.model.backbone), part(run.model.vision_tower), "cuda" if fits_gpu else "meta")


def take_a_step(run, text, vision, device: str) -> None:
    shape = LlavaConfig(
        text_config=text,
        vision_config=vision,
        vision_feature_layer=run.model.vision_feature_layer,
        vision_feature_select_strategy=run.model.vision_feature_select_strategy,
        image_token_index=5,
        image_seq_length=run.model.num_image_tokens,
    )
    with torch.device(device):
        lvlm = LlavaForConditionalGeneration(shape).requires_grad_(False).bfloat16()
    if device == "meta":
        lvlm.set_attn_implementation("eager")  # other implementations read the mask
    with torch.device("meta" if device == "meta" else "cpu"):  # adapters are created on the CPU, then moved
        lora.apply_lora(lvlm, rules.sparse_uniform(text.num_hidden_layers, text.num_hidden_layers // 4), run.lora)
    lvlm.activation_checkpointing_enable({"use_reentrant": False})
    side = vision.image_size
    module = LvlmWithLoss(lvlm, torch.zeros(3, side, side)).train()
    ids = torch.full((2, run.model.num_image_tokens + 64), 7, device=device)
    ids[0, 1 : 1 + run.model.num_image_tokens] = 5  # the other sample has no image
    pixels = torch.zeros(1, 3, side, side, device=device)
    loss = module(ids, ids.where(ids != 5, IGNORE), torch.ones_like(ids), pixels)
    loss.backward()
    trainable = lora.trainable_parameters(module)
    assert all(tensor.grad is not None and tensor.grad.shape == tensor.shape for tensor in trainable.values())
    optimizer = torch.optim.AdamW(trainable.values())
    optimizer.step()
    assert len(optimizer.state) == len(trainable)
    assert loss.shape == () and loss.dtype == torch.float32
    assert device == "meta" or loss.isfinite()


@pytest.mark.parametrize("name", TRAINABLE)
def test_number_of_image_tokens_matches_the_tower(name):
    model = configured(name).model
    tower = CONFIGURATIONS[model.vision_tower]
    assert (tower["image_size"] // tower["patch_size"]) ** 2 == model.num_image_tokens
    has_class_token = tower["model_type"] == "clip_vision_model"
    assert (model.vision_feature_select_strategy == "default") == has_class_token
    assert model.image_processor == ("clip" if has_class_token else "siglip")
    assert model.max_length >= 2 * model.num_image_tokens


def narrow(name: str) -> dict[str, int]:
    """Sizes of a narrow part: widths and heads divided with all ratios kept, depth 4; images and patches unchanged."""
    config = CONFIGURATIONS[name]
    sizes = {key: config[key] // 32 for key in ("hidden_size", "intermediate_size")}
    heads = {key: config[key] // 8 for key in ("num_attention_heads", "num_key_value_heads") if key in config}
    return sizes | heads | {"num_hidden_layers": 4}


def write_parts(name: str, folder: Path) -> list[str]:
    """The narrow LVLM's parts on disk; returns the overrides that name them."""
    model = configured(name).model
    tokenizer = GOLDEN / "tokenizers" / TOKENIZERS[model.template]
    text = part(model.backbone, **narrow(model.backbone), vocab_size=1024, pad_token_id=None)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(text).save_pretrained(folder / "backbone")
    vision = part(model.vision_tower, **narrow(model.vision_tower))
    tower = folder / "vision_tower"
    TOWERS[model.image_processor](vision).save_pretrained(tower)
    families = {"clip": "llava_official/clip-vit-tiny-patch14-56", "siglip": "bunny_official/siglip-tiny-patch14-56"}
    processor = json.loads((GOLDEN / families[model.image_processor] / "preprocessor_config.json").read_text())
    side = vision.image_size
    size = {"crop_size": side, "size": side} if "crop_size" in processor else {"size": {"height": side, "width": side}}
    (tower / "preprocessor_config.json").write_text(json.dumps(processor | size))
    projector = {
        f"model.mm_projector.{number}.{kind}": 0.1 * torch.randn(*shape)
        for number, width in {"0": vision.hidden_size, "2": text.hidden_size}.items()
        for kind, shape in {"weight": (text.hidden_size, width), "bias": (text.hidden_size,)}.items()
    }
    (folder / "projector").mkdir()
    torch.save(projector, folder / "projector" / "mm_projector.bin")
    shutil.copytree(tokenizer, folder / "tokenizer")
    parts = [f"model.{key}={folder / key}" for key in ("backbone", "vision_tower", "projector", "tokenizer")]
    return [*parts, "model.num_layers=4"]


@pytest.mark.parametrize("name", TRAINABLE)
def test_narrow_lvlm_takes_a_training_step_with_images_of_full_size(name, tmp_path):
    small = ["train.global_batch_size=2", "train.micro_batch_size=2", "engine.name=torch", "layer_count=2_layers"]
    overrides = [f"model={name}", *small, "selector.layers=[0,2]", *write_parts(name, tmp_path)]
    run = composed(overrides)
    tokenizer = loading.load_model_tokenizer(run.model)
    lvlm = loading.load(run.model)
    lora.apply_lora(lvlm, (0, 2), run.lora)
    module = LvlmWithLoss(lvlm, Pixels(run.model).blank())
    Image.linear_gradient("L").save(tmp_path / "image.png")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A gradient."}]
    rows = [{"id": "a", "image": "image.png", "conversations": json.dumps(turns)}]
    rows += [{"id": "b", "image": None, "conversations": json.dumps([turns[0] | {"value": "Why?"}, turns[1]])}]
    source = dataset.TrainingDataset(
        rows,
        run.model,
        tokenizer,
        image_token_id=loading.image_token_id(run.model, tokenizer),
        image_folder=tmp_path,
        on_bad_image="error",
    )
    batch = collate([source[0], source[1]], pad_token_id=int(tokenizer.pad_token_id))
    is_image = batch.input_ids == loading.image_token_id(run.model, tokenizer)
    assert is_image.sum(1).tolist() == [run.model.num_image_tokens, 0]
    trainable = lora.trainable_parameters(module)
    before = {key: tensor.detach().clone() for key, tensor in trainable.items()}
    runner = engine.create(module, [{"params": list(trainable.values()), "lr": 1e-3}], run.train, run.engine)
    loss = runner(**batch.model_inputs()) / num_supervised(batch)
    assert 5 < loss.item() < 10  # near log 1024 = 6.9, the loss of uniform predictions
    runner.backward(loss)
    for key, tensor in trainable.items():
        moved = not torch.equal(tensor, before[key])
        assert moved == ("lora_A" not in key), key  # lora_B starts at 0, so lora_A has no gradient yet
