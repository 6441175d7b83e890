"""Questions that vrx and plain transformers answer with the same model: are the token ids the same?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from support import plain_transformers

from vrx.config.schema import ModelConfig
from vrx.data.batch import collate
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import Generator
from vrx.evaluation.native_generation import NativeGenerator
from vrx.metrics.answer import Answer
from vrx.models import from_run, loading
from vrx.models.export import export_adapter, export_model
from vrx.models.lvlm import forward_inputs
from vrx.runs.files import write_json

TEXTS = ["What is it?", " \nWhat colour is the cup?", "A. red\nB. blue\nAnswer with the letter.", "Ünï 😀?"]
NUM_QUESTIONS = 50


@dataclass
class Exported:
    """A folder that plain transformers loads; base: of the model that the adapter in it belongs to."""

    folder: Path
    expected: list[dict[str, list[Any]]]
    base: Path | None = None


def questions(images: Path) -> list[tuple[Path, str]]:
    """Fifty questions about the pictures in a folder."""
    pictures = sorted(path for path in images.iterdir() if path.suffix in (".jpg", ".png"))
    texts = [*TEXTS, *(f"What is number {index}?" for index in range(NUM_QUESTIONS - len(TEXTS)))]
    return [(pictures[index % len(pictures)], text) for index, text in enumerate(texts)]


def asked(config: ModelConfig, run_dir: Path, images: Path) -> list[dict[str, list[Any]]]:
    """What vrx asks and answers, as ids."""
    lvlm = from_run.load_from_run(config, run_dir, dtype=torch.float32)
    generator = (
        Generator(lvlm, loading.load_model_tokenizer(config), config)
        if config.is_assembled
        else NativeGenerator(lvlm, config)
    )
    rows = []
    for image, question in questions(images):
        encoded = generator.encode(Sample(question, image, Answer("q", "", ())))
        batch = collate([encoded.row], pad_token_id=generator.pad_token_id, side="left")
        inputs = forward_inputs(generator.lvlm, batch)
        with torch.inference_mode():
            rows.append(plain_transformers.answer(generator.lvlm, inputs))
    assert len({row["logits"][-1] for row in rows}) > len(rows) // 2, "the questions make no difference"
    return rows


def export(config: ModelConfig, run_dir: Path | None, folder: Path, images: Path) -> Exported:
    """Export a run, or with None the model before tuning, and ask it."""
    folder.mkdir()
    export_model(config, run_dir, folder, dtype=torch.float32, shard_bytes=2**22)
    return Exported(folder, asked(config, run_dir or folder / "none", images))


def adapter_of(exported: Exported, config: ModelConfig, run_dir: Path, base: Path) -> Exported:
    """The same run as an adapter, which must give the same answers upon its base."""
    folder = exported.folder.with_name(f"{exported.folder.name}_adapter")
    folder.mkdir()
    export_adapter(config, run_dir, folder)
    return Exported(folder, exported.expected, base)


def require_same_elsewhere(exports: list[Exported], images: Path, work: Path) -> None:
    """Ask the exports in a fresh process without vrx."""
    asks: list[dict[str, Any]] = [
        {
            "folder": str(export.folder),
            "base": export.base and str(export.base),
            "questions": [[str(image), text] for image, text in questions(images)],
        }
        for export in exports
    ]
    write_json(work / "questions.json", asks)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, plain_transformers.__file__, work / "questions.json", work / "answers.json"],
        env={**environment, "HF_HUB_OFFLINE": "1"},
        cwd=work,
        check=True,
    )
    for export, rows in zip(exports, json.loads((work / "answers.json").read_text()), strict=True):
        for row, expected in zip(rows, export.expected, strict=True):
            assert [row["prompt"], row["answer"]] == [expected["prompt"], expected["answer"]], export.folder
            torch.testing.assert_close(*(torch.tensor(each["logits"]) for each in (row, expected)), atol=1e-4, rtol=0)
        assert all(row["pipeline"] == row["prompt"] + row["answer"] for row in rows if "pipeline" in row)
