"""`vrx check` names missing and damaged model files without loading them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from support.composing import composed
from support.official import FAMILIES, GOLDEN, model_config

from vrx.config.paths import PACKAGE
from vrx.config.schema import ModelConfig
from vrx.jobs.check import model_files

WEIGHTS = PACKAGE / "tiny" / "weights"


def failures(model: ModelConfig) -> list[str]:
    return [f"{finding.name}: {finding.message}" for finding in model_files.weights(model) if finding.bad]


def test_a_complete_model_passes(make_run):
    assert failures(make_run().model) == []


@pytest.mark.parametrize(
    ("part", "file", "message"),
    [
        ("backbone", "model.safetensors", "contains no model.safetensors or"),
        ("backbone", "config.json", "contains no config.json"),
        ("vision_tower", "preprocessor_config.json", "contains no preprocessor_config.json"),
        ("projector", "projector.safetensors", "contains no projector.safetensors or mm_projector.bin"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_an_incomplete_part_is_named_with_its_file(make_run, tmp_path, part, file, message, damage):
    model = make_run().model
    shutil.copytree(WEIGHTS / part, tmp_path / part)
    setattr(model, part, str(tmp_path / part))
    assert failures(model) == []
    content = (tmp_path / part / file).read_bytes()
    (tmp_path / part / file).unlink()
    if damage == "truncated":
        (tmp_path / part / file).write_bytes(content[: len(content) // 2])
        message = f"{file} is truncated or damaged"
    (failure,) = failures(model)
    assert failure.startswith(f"model.{part}: ") and message in failure


def test_complete_parts_that_do_not_fit_are_named(make_run):
    model = make_run("model.num_image_tokens=5").model
    (failure,) = [finding for finding in model_files.parts(model) if finding.bad]
    assert failure.name == "parts" and failure.message.startswith("model.num_image_tokens=5: ")
    assert not any(finding.bad for finding in model_files.parts(make_run().model))


def test_a_missing_shard_is_named(make_run, tmp_path):
    model = make_run().model
    shutil.copytree(WEIGHTS / "backbone", tmp_path / "backbone")
    (tmp_path / "backbone" / "model.safetensors").rename(tmp_path / "backbone" / "one.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "backbone" / "model.safetensors.index.json").write_text(json.dumps(index))
    model.backbone = str(tmp_path / "backbone")
    (failure,) = failures(model)
    assert "1 of 2 shards missing, the first two.safetensors" in failure


def lora_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    """LLaVA's LoRA output and its parts, copied into a folder where a test may damage them."""
    monkeypatch.chdir(tmp_path)
    for name in (FAMILIES["llava_official"][key] for key in ("adapter", "backbone", "vision_tower")):
        shutil.copytree(GOLDEN / "llava_official" / name, tmp_path / name, copy_function=shutil.copyfile)
    config = model_config("llava_official", None)
    parts = {key: Path(getattr(config, key)).name for key in ("backbone", "vision_tower")}
    return dataclasses.replace(config, **parts, lvlm=FAMILIES["llava_official"]["adapter"])


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("llava-tiny-v1.5-lora/non_lora_trainables.bin", "model.lvlm: "),
        ("llava-tiny-v1.5-lora/adapter_model.safetensors", "model.lvlm: "),
        ("vicuna-tiny/pytorch_model.bin", "model.backbone: "),
        ("vicuna-tiny/tokenizer.model", "tokenizer: "),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_lora_output_needs_its_projector_and_its_backbone(tmp_path, monkeypatch, file, message, damage):
    model = lora_output(tmp_path, monkeypatch)
    assert failures(model) == []
    content = Path(file).read_bytes()
    Path(file).unlink()
    if damage == "truncated":
        Path(file).write_bytes(content[: 0 if file.endswith(".model") else len(content) - 100])
    failure = failures(model)[0]
    assert failure.startswith(message) and Path(file).name in failure


def test_parts_that_are_not_downloaded_come_with_the_download_command(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    lines = failures(composed(["model=llava-1.5-7b"]).model)
    assert len(lines) == 4
    assert all("is not on this machine; run: hf download " in line for line in lines)
