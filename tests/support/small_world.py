"""Made-up pictures for the small world, and the folder of the prepared parts where there is one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vrx.config.schema import WorldConfig
from vrx.runs.files import write_json
from vrx.small import data
from vrx.small.pictures import TABLE, file_name, known_names

STYLES = ("emojione", "fxemoji", "noto", "openmoji", "twemoji")
PREPARED = "VRX_SMALL"  # environment variable that names the folder of `python -m vrx.small.prepare`


def make_pictures(folder: Path) -> Path:
    """A folder of pictures as prepare makes it: every known thing in every style, each in a colour of its own."""
    for style in STYLES:
        (folder / style).mkdir(parents=True)
        for name in known_names().category:
            colour = hashlib.sha256(f"{style} {name}".encode()).digest()[:3]
            pixels = np.zeros((16, 16, 4), dtype=np.uint8)
            pixels[2:14, 2:14] = (*colour, 255)
            Image.fromarray(pixels).save(folder / style / file_name(name))
    write_json(folder / TABLE, {"styles": {name: sorted(STYLES) for name in sorted(known_names().category)}})
    return folder


def build_world(folder: Path, pictures: Path, **options: int) -> Path:
    """A small world with few pictures."""
    settings = {"num_images": 12, "num_captions": 8, "num_questions": 6, "seed": 0, **options}
    data.build(WorldConfig(name="small", folder=str(folder), pictures=str(pictures), prepare="prepare it", **settings))
    return folder


def prepared_folder() -> Path:
    """The folder of the prepared parts; skips the test where the environment names none."""
    folder = os.environ.get(PREPARED)
    if folder is None:
        pytest.skip(f"needs pretrained weights: {PREPARED}=<folder of python -m vrx.small.prepare>")
    return Path(folder)
