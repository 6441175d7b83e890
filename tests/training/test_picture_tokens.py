"""A processor whose pictures have other numbers of tokens than the model has features is noticed before training."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.families import picture, question, slow_families

from vrx.config.errors import UserError
from vrx.config.schema import InstructionsConfig, RunConfig
from vrx.data.conversations.chat_encoding import ChatEncoder
from vrx.data.conversations.processors import forward_keys, load_processor
from vrx.training.picture_tokens import require_picture_tokens, token_counts


@pytest.mark.parametrize("name", slow_families(fast=("qwen2_5_vl", "llava_hf")))
def test_processor_and_model_agree(tiny_family: Any, name: str) -> None:
    family = tiny_family(name)
    counts = [token_counts(family.loaded, family.prompt(number)) for number in range(2)]
    assert all(pair is None or pair[0] == pair[1] > 0 for pair in counts)


def test_other_number_is_refused_by_record(tiny_family: Any, tmp_path: Path) -> None:
    family = tiny_family("llava_hf")
    shutil.copytree(family.folder, tmp_path / "changed")
    settings = json.loads((tmp_path / "changed" / "processor_config.json").read_text())
    settings["patch_size"] //= 2
    (tmp_path / "changed" / "processor_config.json").write_text(json.dumps(settings))
    config = dataclasses.replace(family.config, lvlm=str(tmp_path / "changed"))
    encoder = ChatEncoder(load_processor(config), forward_keys=forward_keys(config))

    class Samples:
        rows = (SimpleNamespace(id="r4"),)

        def __getitem__(self, number: int) -> Any:
            return encoder.prompt([question(0, 1)], [picture(0)])

        def row_id(self, row: Any) -> str:
            return row.id

    data: Any = SimpleNamespace(words=np.array([3]), plan=SimpleNamespace(rows=[0]), dataset=Samples())
    run = RunConfig(model=config, instructions=InstructionsConfig(path="talks.jsonl"))
    with pytest.raises(UserError, match=r"^talks.jsonl: record r4: images: \d+ tokens of pictures in the ids"):
        require_picture_tokens(run, family.loaded, data)
