"""Captions of scenes of the embedded world, in the layout of LLaVA's blip_laion_cc_sbu_558k.json."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from vrx.tiny import lists
from vrx.tiny.scenes import draw, sample


def caption_records(folder: Path, number: int = 24) -> list[dict[str, Any]]:
    """Records whose images are saved in a folder; the tag is before or after the question, as in LLaVA's file."""
    rng, records = random.Random("captions"), []
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        scene = sample(rng)
        draw(scene, seed=index).save(folder / f"{index}.png")
        caption = lists.description(scene, rng)
        question = f"<image>\n{caption.text}" if index % 2 else f"{caption.text}\n<image>"
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": caption.answer}]
        records.append({"id": f"caption_{index}", "image": f"{index}.png", "conversations": turns})
    return records


def write_captions(folder: Path, records: list[dict[str, Any]] | None = None) -> tuple[str, str]:
    """Write captions and their images below a folder; the overrides that name them."""
    made = caption_records(folder / "pictures")
    (folder / "captions.json").write_text(json.dumps(made if records is None else records))
    return f"captions.path={folder}/captions.json", f"captions.image_folder={folder}/pictures"
