"""Whole runs of tiny checkpoints on four photographs, by the real command."""

from __future__ import annotations

import json
from pathlib import Path

from support.family_table import DEPTH
from support.whole_runs import GOLDEN

PHOTOGRAPHS = GOLDEN / "photographs"


def options(name: str, checkpoint: Path, data: Path) -> list[str]:
    """The options of a run of a family's checkpoint; data: the conversations, see `write_conversations`."""
    benchmark = {
        "reader": "null",
        "path": PHOTOGRAPHS / "questions.jsonl",
        "image_folder": PHOTOGRAPHS,
        "max_new_tokens": 3,
        "aggregate": "mean",
    }
    return [
        "model=qwen2.5-vl-3b",
        f"model.name={name}",
        f"model.architecture={name}",
        f"model.lvlm={checkpoint}",
        f"model.pictures.max_pixels={'100000' if name == 'qwen2_5_vl' else 'null'}",
        f"model.num_layers={DEPTH}",
        "model.max_length=4096",
        "layer_count=2",
        f"instructions.path={data}",
        f"instructions.image_folder={PHOTOGRAPHS}",
        "benchmark=mmbench",
        *(f"benchmark.mmbench.{key}={value}" for key, value in benchmark.items()),
        "train.max_steps=4",
        "train.connector=true",
        "train.global_batch_size=4",
        "train.micro_batch_size=2",
        "train.dtype=float32",
        "engine.name=torch",
        "lora.r=4",
        "lora.alpha=8",
        "runtime.num_workers=0",
        "wandb.mode=disabled",
    ]


def write_conversations(path: Path) -> Path:
    """Conversations about the photographs: of one and of two pictures, and of text alone."""
    questions = [
        json.loads(line) for line in (PHOTOGRAPHS / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    records = [
        {
            "id": row["id"],
            "images": [row["image"]],
            "messages": [
                {"role": "user", "content": f"<image>{row['question']}"},
                {"role": "assistant", "content": row["choices"]["AB".index(row["answer"])]},
            ],
        }
        for row in questions
    ]
    records.append(
        {
            "id": "both",
            "images": [questions[0]["image"], questions[2]["image"]],
            "messages": [
                {"role": "user", "content": "<image> and <image>: which is a calendar ?"},
                {"role": "assistant", "content": "the second"},
            ],
        }
    )
    text = {"role": "user", "content": "what is a cat ?"}
    records.append({"id": "text", "messages": [text, {"role": "assistant", "content": "an animal"}]})
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
