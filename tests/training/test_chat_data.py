"""Conversations that a model's own processor or chat template refuses are named before weights are loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.composing import composed

from vrx.config.errors import UserError
from vrx.data import run_data
from vrx.runs.files import write_json
from vrx.runs.run_dir import RunDir
from vrx.training.stage import TrainingData, open_data

REWRITES = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | string | upper }}{% endfor %}"


@pytest.fixture
def opened(tiny_family: Callable[[str], Any], tmp_path: Path) -> Callable[..., TrainingData]:
    """The data of a run on one question, asked of a copy of a checkpoint whose chat template may be another."""

    def make(question: str, template: str | None = None) -> TrainingData:
        folder = shutil.copytree(tiny_family("qwen2_5_vl").folder, tmp_path / "model")
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "a cat"}]
        (tmp_path / "talks.jsonl").write_text(json.dumps({"id": "r7", "messages": turns}))
        options = [f"model.lvlm={folder}", "model.num_layers=8", f"instructions.path={tmp_path}/talks.jsonl"]
        run = composed(["model=qwen2.5-vl-3b", *options, f"runtime.output_root={tmp_path}/outputs"])
        table = run_data.build(run, tmp_path / "data", digest=run_data.digest(run))
        write_json(RunDir(tmp_path).data, {"table": str(table)})
        return open_data(run, tmp_path)

    return make


def test_conversations_are_opened(opened: Callable[..., TrainingData]):
    assert len(opened("what is it?").dataset) == 1


@pytest.mark.parametrize(
    ("question", "template", "message"),
    [
        ("what is <|image_pad|> ?", None, r"1 times <\|image_pad\|> in the text of 0 pictures"),
        ("what is <|video_pad|> ?", None, r"Qwen2_5_VLProcessor refuses them: Found 1 <\|video_pad\|> tokens"),
        ("what is it?", REWRITES, "the model's chat template rewrites this answer"),
        ("what is it?", "{% for", "the model's chat template refuses them"),
    ],
)
def test_what_cannot_be_encoded_is_named_with_its_file(
    opened: Callable[..., TrainingData], question: str, template: str | None, message: str
):
    with pytest.raises(UserError, match=rf"talks.jsonl: record r7: messages.*: {message}"):
        opened(question, template)
