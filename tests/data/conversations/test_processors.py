"""Loading a checkpoint's processor without torchvision and without its video part."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.support.chat_formats import FORMATS, noise, turn, write_format
from vrx.config.errors import UserError
from vrx.config.model_config import PicturesConfig
from vrx.data.conversations.chat_encoding import ChatEncoder
from vrx.data.conversations.processors import describe, forward_keys, load_processor


def test_record_says_what_made_the_pixels(tmp_path: Path) -> None:
    config = write_format(tmp_path, FORMATS["chatml"])
    made_by = describe(load_processor(config))
    assert made_by["processor"] == "Qwen2_5_VLProcessor"
    assert made_by["image_processor"] == "Qwen2VLImageProcessorPil"
    assert made_by["backend"] == "pil"


@pytest.mark.parametrize("max_pixels", [56 * 56, 140 * 140, 280 * 280])
def test_limit_of_pixels_bounds_the_tokens_of_a_picture(tmp_path: Path, max_pixels: int) -> None:
    config = write_format(tmp_path, FORMATS["chatml"])
    config.pictures = PicturesConfig(min_pixels=28 * 28, max_pixels=max_pixels)
    encoder = ChatEncoder(load_processor(config), forward_keys=forward_keys(config))
    sample = encoder.prompt([turn("user", "<image>")], [noise(500, 400)])
    num_tokens = int(sample.tensors["image_grid_thw"].prod()) // 4
    assert max_pixels / 28**2 * 0.4 < num_tokens <= max_pixels / 28**2


@pytest.mark.parametrize(
    ("name", "limit", "message"),
    [
        ("gemma", PicturesConfig(max_pixels=100), "model.pictures.max_pixels=100: Gemma3ImageProcessorPil has no such"),
        ("llama3", PicturesConfig(min_pixels=9), "model.pictures.min_pixels=9: .*; valid are max_tiles"),
    ],
)
def test_limit_that_the_processor_lacks_is_refused(
    tmp_path: Path, name: str, limit: PicturesConfig, message: str
) -> None:
    config = write_format(tmp_path, FORMATS[name])
    config.pictures = limit
    with pytest.raises(UserError, match=message):
        load_processor(config)


def test_missing_chat_template_is_refused(tmp_path: Path) -> None:
    config = write_format(tmp_path, FORMATS["chatml"], template=None)
    with pytest.raises(UserError, match=r"model.lvlm=.*: has no chat template; valid is"):
        load_processor(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"model_type": "molmo"}), "transformers has no processor for model_type molmo; remote code"),
        ("{", "its config.json cannot be read"),
        (json.dumps([]), "its config.json cannot be read"),
        (None, "has no config.json"),
    ],
)
def test_checkpoint_that_transformers_does_not_know_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    config = write_format(tmp_path, FORMATS["chatml"])
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_processor(config)


def test_damaged_file_of_a_processor_is_named_with_its_checkpoint(tmp_path: Path) -> None:
    config = write_format(tmp_path, FORMATS["chatml"])
    (tmp_path / "preprocessor_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"model.lvlm=.*: its processor cannot be read"):
        load_processor(config)


@pytest.mark.parametrize("name", FORMATS)
def test_saved_processor_gives_the_same_ids_and_pixels(tmp_path: Path, name: str) -> None:
    config = write_format(tmp_path / "a", FORMATS[name])
    processor = load_processor(config)
    (tmp_path / "b").mkdir()
    processor.save_pretrained(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_bytes((tmp_path / "a" / "config.json").read_bytes())
    again = load_processor(dataclasses.replace(config, lvlm=str(tmp_path / "b")))
    keys, messages = forward_keys(config), [turn("user", "<image>", "what ?")]
    one, other = (ChatEncoder(part, forward_keys=keys).prompt(messages, [noise(90, 60)]) for part in (processor, again))
    assert one.input_ids == other.input_ids
    assert one.tensors.keys() == other.tensors.keys()
    assert all(tensor.equal(other.tensors[key]) for key, tensor in one.tensors.items())
