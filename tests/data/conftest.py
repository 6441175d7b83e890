"""Instruction data on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.instruction_data import Make

from vrx.config.schema import InstructionsConfig


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write records and the images that they name; options go to the configuration."""
    images = tmp_path / "images"
    (images / "a").mkdir(parents=True)
    for name in ("red", "красный"):
        Image.new("RGB", (4, 4), "red").save(images / "a" / f"{name}.png")
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "outside.png")
    (images / "text.png").write_text("not an image")
    (images / "empty.png").touch()
    (images / "link.png").symlink_to(tmp_path / "outside.png")

    def write(records: Any, **options: Any) -> InstructionsConfig:
        path = tmp_path / "data.json"
        path.write_text(records if isinstance(records, str) else json.dumps(records), encoding="utf-8")
        return InstructionsConfig(**{"path": str(path), "image_folder": str(images), **options})

    return write
