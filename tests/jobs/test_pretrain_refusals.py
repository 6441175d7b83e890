"""Pre-trainings that cannot work are refused in one line, before any worker starts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.captions import caption_records, write_captions
from support.whole_runs import STEPS

Command = Callable[..., subprocess.CompletedProcess]


def refused(vrx: Command, root: Path, *overrides: str) -> str:
    result = vrx("pretrain", *STEPS, "engine.name=torch", *overrides)
    assert result.returncode == 2, result.stderr
    assert not list(root.glob("outputs/pretrain/*/*/.ready")), "a worker has started"
    line = result.stderr.splitlines()[-1]
    assert line.startswith("vrx: ")
    return line.removeprefix("vrx: ")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("selector=consecutive_top",), "selector=consecutive_top: vrx pretrain tunes no decoder layer"),
        (("selector.layers=[3]",), "selector.layers=[3]: vrx pretrain tunes no decoder layer"),
        (("layer_count=4_layers",), "layer_count=4_layers: vrx pretrain tunes no decoder layer"),
        (("lora.r=8",), "lora.r=8: vrx pretrain adds no adapters"),
        (("model.projector=somewhere",), "model.projector=somewhere: vrx pretrain starts from a fresh projector"),
        (("model.lvlm=somewhere",), "model.lvlm=somewhere: has a projector"),
        (("train.projector_lr=1e-4",), "train.projector_lr=0.0001: vrx pretrain trains the projector at train.lr"),
        (("captions.path=null",), "captions.path=null: name the captions"),
        (("captions.path=nowhere.json",), "captions.path=nowhere.json: no such file"),
        (("captions.objective=words",), "captions.objective=words: valid are language_model, word_alignment"),
        (
            ("captions.objective=word_alignment", "train.micro_batch_size=1"),
            "train.micro_batch_size=1: captions.objective=word_alignment tells the captions of a micro-batch apart",
        ),
        (("captions.on_bad_image=ignore",), "captions.on_bad_image=ignore: valid are error, skip, replace"),
        (("model.template=none",), "model.template=none: valid are vicuna_v1"),
        (("model.num_image_tokens=5",), "model.num_image_tokens=5: vrx:tiny/weights/vision_tower yields"),
        (("model.image_processor=clip",), "model.image_processor=clip: vrx:tiny/weights/vision_tower is a tower of"),
    ],
)
def test_options_that_cannot_work_are_refused(vrx: Command, tmp_path: Path, overrides: tuple[str, ...], message: str):
    captions = write_captions(tmp_path)
    assert refused(vrx, tmp_path, *captions, *overrides).startswith(message)


def with_turns(*turns: str) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        roles = ("human", "gpt") * len(turns)
        record["conversations"] = [{"from": role, "value": turn} for role, turn in zip(roles, turns, strict=False)]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(image=None, conversations=text_only()), "image: missing"),
        (with_turns("Describe it.", "a cat"), "conversations[0]: has no <image> tag"),
        (with_turns("<image>", "a cat", "And?", "a dog"), "conversations: must be a question and its caption"),
        (lambda record: record.update(image="nowhere.png"), "nowhere.png does not exist"),
    ],
)
def test_records_that_are_no_captions_are_refused(
    vrx: Command, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
):
    records = caption_records(tmp_path / "pictures")
    change(records[3])
    captions = write_captions(tmp_path, records)
    line = refused(vrx, tmp_path, *captions)
    assert "record 3 (id caption_3)" in line and message in line


def text_only() -> list[dict[str, str]]:
    return [{"from": "human", "value": "Describe a cat."}, {"from": "gpt", "value": "a cat"}]


def test_a_missing_image_token_is_refused_before_weights_are_read(vrx: Command, tmp_path: Path):
    captions = write_captions(tmp_path)
    result = vrx("pretrain", *STEPS, "engine.name=torch", *captions, "model.image_token=nothing")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("vrx: model.image_token=nothing: must be a token")
