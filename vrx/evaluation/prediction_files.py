"""Answers as files: `answers/<benchmark>.jsonl`, keyed by what made them, so that no model gets another's."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from vrx.evaluation.families import Sample
from vrx.metrics.answer import Answer
from vrx.runs.content_digest import image_digest
from vrx.runs.files import digest, write_atomic


def predictions_key(
    weights: str, samples: list[Sample], max_new_tokens: int, *, output_type: str = "text", dtype: str = "float32"
) -> str:
    """What answers were made from; answers with another key are not these.

    Of an image counts what is in it, not where it lies; of a reference nothing, unless its likelihood was asked for.
    `dtype` is the precision that a GPU is told to compute in.
    """
    asked = []
    for sample in samples:
        row = [sample.answer.id, sample.prompt, image_digest(sample.image) if sample.image else ""]
        asked.append([*row, *sample.answer.references[:1]] if output_type == "loglikelihood" else row)
    way = "likelihood" if output_type == "loglikelihood" else output_type  # its old name, so that keys stay
    told = [weights, asked, max_new_tokens, way]
    return digest(told if dtype == "float32" else [*told, dtype])[:16]


def predictions_file(run_dir: Path, benchmark: str) -> Path:
    return run_dir / "answers" / f"{benchmark}.jsonl"


def part_file(run_dir: Path, benchmark: str, rank: int) -> Path:
    folder = run_dir / "answers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f".{benchmark}.{rank}.part"


def write_prediction(file: TextIO, answer: Answer) -> None:
    file.write(json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n")


def write_predictions(path: Path, made_from: str, answers: Iterable[Answer], **told: Any) -> None:
    """Write a whole file of answers, or none; what else is told of them stands in its header."""
    text = io.StringIO()
    text.write(json.dumps({"key": made_from, **told}) + "\n")
    for answer in answers:
        write_prediction(text, answer)
    write_atomic(path, text.getvalue())


def read_header(run_dir: Path, benchmark: str) -> dict[str, Any]:
    """What the first line of an answer file tells: its key, and what was found while it was made."""
    with predictions_file(run_dir, benchmark).open("rb") as file:
        return json.loads(file.readline())


def read_predictions(path: Path, made_from: str) -> dict[str, Answer]:
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


def with_current_references(samples: list[Sample], read: dict[str, Answer]) -> list[Answer]:
    """What was answered, in the order of the samples and with the references they have now."""
    said = ("text", "choice_log_probs", "log_likelihood", "num_tokens", "num_words", "num_bytes")
    return [
        dataclasses.replace(sample.answer, **{name: getattr(read[sample.answer.id], name) for name in said})
        for sample in samples
    ]


def update_references(run_dir: Path, benchmark: str, answers: list[Answer]) -> None:
    """Put the references that answers were scored with into their file, where it holds others."""
    path, told = predictions_file(run_dir, benchmark), read_header(run_dir, benchmark)
    made_from = told.pop("key")
    if list(read_predictions(path, made_from).values()) != answers:
        write_predictions(path, made_from, answers, **told)


def read_parts(run_dir: Path, benchmark: str, made_from: str) -> dict[str, Answer]:
    """What all ranks have answered so far, of this command and of earlier ones."""
    found: dict[str, Answer] = {}
    for path in sorted((run_dir / "answers").glob(f".{benchmark}.*.part")):
        found |= read_predictions(path, made_from)
    return found


def merge_parts(run_dir: Path, benchmark: str, samples: list[Sample], made_from: str, **told: Any) -> None:
    """Join the ranks' parts into the benchmark's answer file, in the order of its samples."""
    found = read_parts(run_dir, benchmark, made_from)
    answers = [found[sample.answer.id] for sample in samples]
    write_predictions(predictions_file(run_dir, benchmark), made_from, answers, **told)
    for path in (run_dir / "answers").glob(f".{benchmark}.*.part"):
        path.unlink()
