"""Answers as files: `answers/<benchmark>.jsonl`, keyed by what made them, so that no model gets another's."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from vrx.benchmarks import Sample
from vrx.config import ModelConfig
from vrx.metrics import Answer
from vrx.records import digest, file_digest, weights_fingerprint, write_atomic


def weights_digest(config: ModelConfig, run_dir: Path) -> str:
    """Stands for the weights that answer: those the LVLM is assembled from, and the run's adapter and projector."""
    files = sorted((run_dir / "adapter").glob("*.safetensors"))
    return digest([weights_fingerprint(config), [file_digest(file) for file in files]])


def key(weights: str, samples: list[Sample], max_new_tokens: int) -> str:
    """What answers were made from; answers with another key are not these."""
    asked = [[sample.answer.id, sample.prompt, str(sample.image or "")] for sample in samples]
    return digest([weights, asked, max_new_tokens])[:16]


def answers_file(run_dir: Path, benchmark: str) -> Path:
    return run_dir / "answers" / f"{benchmark}.jsonl"


def part_file(run_dir: Path, benchmark: str, rank: int) -> Path:
    folder = run_dir / "answers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f".{benchmark}.{rank}.part"


def write_answer(file: TextIO, answer: Answer) -> None:
    file.write(json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n")


def write_answers(path: Path, made_from: str, answers: Iterable[Answer]) -> None:
    """Write a whole file of answers, or none."""
    text = io.StringIO()
    text.write(json.dumps({"key": made_from}) + "\n")
    for answer in answers:
        write_answer(text, answer)
    write_atomic(path, text.getvalue())


def read_answers(path: Path, made_from: str) -> dict[str, Answer]:
    """Answers by sample id; none where the file was made from something else, and without a last line that was cut."""
    lines = path.read_bytes().splitlines() if path.is_file() else []  # as text U+2028 in an answer would split it
    found: dict[str, Answer] = {}
    try:
        if not lines or json.loads(lines[0]).get("key") != made_from:
            return {}
        for line in lines[1:]:
            row = json.loads(line)
            lists = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
            found[row["id"]] = Answer(**{**row, **lists})
    except ValueError:  # of JSON, or of UTF-8 where the cut went through a character
        pass
    return found


def read_parts(run_dir: Path, benchmark: str, made_from: str) -> dict[str, Answer]:
    """What all ranks have answered so far, of this command and of earlier ones."""
    found: dict[str, Answer] = {}
    for path in sorted((run_dir / "answers").glob(f".{benchmark}.*.part")):
        found |= read_answers(path, made_from)
    return found


def collect(run_dir: Path, benchmark: str, samples: list[Sample], made_from: str) -> None:
    """Join the ranks' parts into the benchmark's answer file, in the order of its samples."""
    found = read_parts(run_dir, benchmark, made_from)
    write_answers(answers_file(run_dir, benchmark), made_from, [found[sample.answer.id] for sample in samples])
    for path in (run_dir / "answers").glob(f".{benchmark}.*.part"):
        path.unlink()
