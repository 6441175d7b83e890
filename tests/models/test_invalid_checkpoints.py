"""Checkpoints, adapters and parts that are damaged or do not fit are refused by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.layouts import FAMILY, FOLDER, bunny_state, load, official_config, original, refused, same, write
from support.official import FAMILIES, GOLDEN, model_config
from transformers import AutoConfig, CLIPModel, SiglipModel

from vrx.config.errors import UserError
from vrx.models import assemble, loading
from vrx.models.file_names import PROJECTOR_FILE


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def edited(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_folders_without_lvlm_are_refused_with_their_contents(tmp_path):
    (tmp_path / "empty").mkdir()
    refused("unknown layout; valid is a folder with model.safetensors", tmp_path / "empty")
    refused("only a projector; pass it as model.projector", FOLDER / "llava-tiny-pretrain")
    refused("model_type=llama; valid are llava, llava_llama, bunny-llama, bunny-phi3", FOLDER / "vicuna-tiny")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    refused("a run without adapter/", tmp_path / "run")
    weights = copied(FOLDER / "llava-tiny-v1.5", tmp_path / "weights")
    edited(weights / "config.json", model_type="gpt2")
    refused("model_type=gpt2; valid are llava, llava_llama, bunny-llama, bunny-phi3", weights)
    (weights / "config.json").unlink()
    refused("weights but no config.json", weights)


def test_lvlm_of_another_feature_layer_or_depth_is_refused(tmp_path):
    folder = copied(FOLDER / "llava-tiny-v1.5", tmp_path / "lvlm")
    refused(r"model\.num_layers=5: .*lvlm has 6 decoder layers", folder, num_layers=5)
    edited(folder / "config.json", mm_vision_select_layer=-1)
    refused(r"model\.vision_feature_layer=-2: .* was made with -1", folder)


def test_damaged_files_are_refused_by_name(tmp_path):
    state = bunny_state()
    folder = write(tmp_path / "lvlm", state, official_config())
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    refused(r"model-00002-of-00002\.safetensors: damaged", folder)
    shard.unlink()
    refused(r"model-00002-of-00002\.safetensors: missing, although the index", folder)
    edited(folder / "model.safetensors.index.json", weight_map=dict.fromkeys(state, "../elsewhere.safetensors"))
    refused(r"\.\./elsewhere\.safetensors leaves the folder", folder)
    official = copied(FOLDER / "llava-tiny-v1.5", tmp_path / "official")
    shard = official / "pytorch_model-00002-of-00002.bin"
    shard.write_bytes(shard.read_bytes()[:1000])
    refused(r"pytorch_model-00002-of-00002\.bin: damaged", official)


@pytest.mark.parametrize("family", ["llava_official", "bunny_official"])
def test_vision_tower_loads_from_a_checkpoint_with_text_model(family, tmp_path):
    config = dataclasses.replace(model_config(family, None), vision_tower=str(tmp_path))
    vision = AutoConfig.from_pretrained(GOLDEN / family / FAMILIES[family]["vision_tower"]).to_dict()
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model_class = {"clip": CLIPModel, "siglip": SiglipModel}[config.image_processor]
    both = model_class(
        model_class.config_class(vision_config=vision, text_config={**text, "bos_token_id": 0, "eos_token_id": 1})
    )
    both.save_pretrained(tmp_path)
    ours, theirs = assemble.load_vision_tower(config, torch.float32).state_dict(), both.vision_model.state_dict()
    assert ours.keys() == {name for name in theirs if not name.startswith("head.")}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_code_in_a_checkpoint_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = copied(FOLDER / "llava-tiny-v1.5", tmp_path / "lvlm")
    (folder / "modeling.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    edited(folder / "config.json", auto_map={"AutoConfig": "modeling.C", "AutoModelForCausalLM": "modeling.M"})
    assert same(load(folder), original())
    torch.save({"model.norm.weight": Bomb()}, folder / "pytorch_model-00002-of-00002.bin")
    refused(r"pytorch_model-00002-of-00002\.bin: damaged or not a file of tensors", folder)
    assert not (tmp_path / "ran").exists()


def test_adapters_that_do_not_fit_are_refused(tmp_path):
    folder = copied(FOLDER / "llava-tiny-v1.5-lora", tmp_path / "lora")
    tensors = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    assert name in tensors

    save_file(tensors | {name: torch.ones(96, 8)}, folder / "adapter_model.safetensors")
    refused(r"an adapter for another base: .*up_proj\.weight is \(112, 64\), the adapter's \(96, 64\)", folder)
    deeper = {key.replace("layers.5.", "layers.9."): value for key, value in tensors.items()}
    save_file(deeper, folder / "adapter_model.safetensors")
    refused(r"not of the target_modules of adapter_config\.json: no tensors of model\.layers\.5", folder)
    modules = {key.split(".lora_")[0].rpartition(".")[2] for key in tensors}
    edited(folder / "adapter_config.json", target_modules=sorted(modules))
    refused(r"an adapter for another base; this one has no model\.language_model\.layers\.9", folder)
    save_file({key: value for key, value in tensors.items() if key != name}, folder / "adapter_model.safetensors")
    refused(r"an incomplete adapter, .* is missing for .*layers\.1\.mlp\.up_proj", folder)
    save_file(tensors, folder / "adapter_model.safetensors")

    edited(folder / "adapter_config.json", use_dora=True)
    refused(r"an incomplete adapter, one of .*lora_magnitude_vector is missing for", folder)
    edited(folder / "adapter_config.json", use_dora=False, bias="all")
    refused(r"valid is plain LoRA", folder)
    edited(folder / "adapter_config.json", bias="none")
    torch.save({"base_model.model.lm_head.weight": torch.ones(1)}, folder / "non_lora_trainables.bin")
    refused(r"non_lora_trainables\.bin: holds no projector", folder)
    (folder / "non_lora_trainables.bin").unlink()
    refused("an adapter without its projector", folder)


def test_adapter_of_a_base_with_another_name_is_refused(tmp_path):
    folder = copied(FOLDER / "llava-tiny-v1.5-lora", tmp_path / "lora")
    edited(folder / "adapter_config.json", base_model_name_or_path="liuhaotian/llava-tiny-v1.5")
    refused(r"model\.backbone=.*: .*lora was tuned on liuhaotian/llava-tiny-v1\.5, see its adapter_config", folder)
    edited(folder / "adapter_config.json", base_model_name_or_path="./checkpoints/Vicuna_tiny/")
    load(folder)
    moved = copied(FOLDER / "vicuna-tiny", tmp_path / "mine")
    tokenizer = str(FOLDER / "vicuna-tiny")
    refused(r"model\.backbone=.*mine: ", folder, backbone=str(moved), tokenizer=tokenizer)
    edited(moved / "config.json", _name_or_path="somebody/vicuna-tiny")
    load(folder, backbone=str(moved), tokenizer=tokenizer)


@pytest.mark.parametrize("part", ["backbone", "vision_tower", "projector", "mm_projector.bin", "adapter", "beside"])
def test_truncated_part_is_refused_by_file_name(part, tmp_path):
    names = {"adapter": "adapter", "beside": "adapter", "mm_projector.bin": "projector"}
    folder = copied(FOLDER / FAMILIES[FAMILY][names.get(part, part)], tmp_path / FAMILIES[FAMILY]["backbone"])
    if part == "backbone":
        save_file(torch.load(folder / "pytorch_model.bin", weights_only=True), folder / "model.safetensors")
        (folder / "pytorch_model.bin").unlink()
    if part == "projector":
        save_file({"linear_1.bias": torch.zeros(64)}, folder / PROJECTOR_FILE)
    files = {"projector": PROJECTOR_FILE, "mm_projector.bin": "mm_projector.bin"}
    files |= {"adapter": "adapter_model.safetensors", "beside": "non_lora_trainables.bin"}
    file = folder / files.get(part, "model.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    changes = {"lvlm" if names.get(part) == "adapter" else names.get(part, part): str(folder)}
    config = dataclasses.replace(model_config(FAMILY, None), tokenizer=str(FOLDER / "vicuna-tiny"), **changes)
    with pytest.raises(ValueError, match=rf"{file.name}: damaged .*; download it again$") as error:
        loading.load(config)
    assert "\n" not in str(error.value)


def test_parts_that_do_not_fit_are_refused_before_training(tmp_path):
    config = model_config(FAMILY, None)
    wide = tmp_path / "projector"
    wide.mkdir()
    tensors = torch.load(FOLDER / "llava-tiny-pretrain" / "mm_projector.bin", weights_only=True)
    torch.save(tensors | {"model.mm_projector.0.weight": torch.ones(64, 1152)}, wide / "mm_projector.bin")
    with pytest.raises(ValueError, match=r"model\.projector=.*projector: .*1152.* need "):
        loading.load(dataclasses.replace(config, projector=str(wide)))
    with pytest.raises(ValueError, match=r"model\.image_token=<nothing>"):
        loading.load(dataclasses.replace(config, image_token="<nothing>"))
    with pytest.raises(ValueError, match=r"has no token '</s>'"):
        loading.load(dataclasses.replace(config, tokenizer=str(GOLDEN / "tokenizers" / "llama3_like")))
    backbone = copied(FOLDER / "vicuna-tiny", tmp_path / "backbone")
    weights = torch.load(backbone / "pytorch_model.bin", weights_only=True)
    weights.pop("model.layers.4.mlp.up_proj.weight")
    torch.save(weights, backbone / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"model\.backbone=.*: missing or of another shape: .*layers\.4\.mlp\.up_proj"):
        loading.load(dataclasses.replace(config, backbone=str(backbone)))
    with pytest.raises(ValueError, match=r"model\.backbone=.*llava_llama"):
        loading.load(dataclasses.replace(config, backbone=str(FOLDER / "llava-tiny-v1.5")))


def test_hub_id_is_loaded_from_the_cache_or_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--somebody--llava-tiny"
    copied(FOLDER / "llava-tiny-v1.5", repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    config = dataclasses.replace(model_config(FAMILY, None), lvlm="somebody/llava-tiny")
    assert same(loading.load(config), original())
    with pytest.raises(UserError, match=r"model\.lvlm=somebody/else: .* hf download somebody/else$") as error:
        loading.load(dataclasses.replace(config, lvlm="somebody/else"))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"model\.lvlm=no/such/folder: no such folder, and no id"):
        loading.load(dataclasses.replace(config, lvlm="no/such/folder"))
