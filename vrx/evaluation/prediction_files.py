"""Prediction files, `answers/<benchmark>.jsonl`: a header line, then one answer a line.

The header holds a key of everything the predictions were made from (weights, prompts, images, limits), so that no
model is served the predictions of another. While a benchmark is running, each rank writes a part file of its own.
"""

from __future__ import annotations

import dataclasses
import io
import json
import lzma
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypedDict, cast

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.answer_rows import parse_answer
from vrx.evaluation.families import Sample
from vrx.metrics.answer import QUESTION_FIELDS, Answer
from vrx.runs.content_digest import image_digest
from vrx.runs.files import digest, write_atomic
from vrx.runs.results import compressed
from vrx.runs.run_dir import RunDir

VERSION = 1  # of the file format; a header without a version is of version 1


class Agreement(TypedDict):
    """The share of `num_samples` questions whose answer is the same in a batch and alone, a fraction in [0, 1]."""

    value: float
    num_samples: int


@dataclass(frozen=True)
class PredictionHeader:
    """The first line of a prediction file.

    `key` comes from `predictions_key`, `weights` and `questions` are digests of two of its parts; `benchmark` holds the
    settings that the record's score was computed with, as plain values; `provenance` is that of the answers;
    `agreement` is measured where answers can depend on the batch; `dataset_commit` is that of the hub data set that the
    questions come from.
    """

    key: str
    agreement: Agreement | None = None
    benchmark: dict[str, Any] | None = None
    dataset_commit: str | None = None
    weights: str | None = None
    questions: str | None = None
    provenance: dict[str, Any] | None = None
    version: int = VERSION


@dataclass(frozen=True)
class Predictions:
    """The content of a prediction file: its header, and its answers by sample id in the order of the file."""

    header: PredictionHeader
    answers: dict[str, Answer] = field(default_factory=dict)


def predictions_key(
    weights: str, samples: Sequence[Sample], max_new_tokens: int, *, output_type: str = "text", dtype: str = "float32"
) -> str:
    """Key of everything that predictions are made from: 16 hexadecimal digits.

    Images count by content, not by path. References count only where their log-likelihood is asked for, `box_scale`
    only where it is set: the answers hold the frame of their boxes. `dtype` is the precision that a GPU computes in.
    """
    questions = _question_rows(samples, output_type)
    hashed_type = "likelihood" if output_type == "loglikelihood" else output_type  # its old name, so that keys stay
    inputs = [weights, questions, max_new_tokens, hashed_type]
    return digest(inputs if dtype == "float32" else [*inputs, dtype])[:16]


def questions_digest(samples: Sequence[Sample], *, output_type: str = "text") -> str:
    """Digest of what is asked: 16 hexadecimal digits."""
    return digest(_question_rows(samples, output_type))[:16]


def _question_rows(samples: Sequence[Sample], output_type: str) -> list[list[str]]:
    rows = []
    for sample in samples:
        row = [sample.answer.id, sample.prompt, image_digest(sample.image) if sample.image else ""]
        if output_type == "loglikelihood":
            row += sample.answer.references[:1]
        if sample.box_scale is not None:
            row.append(f"box_scale={sample.box_scale}")
        rows.append(row)
    return rows


def predictions_file(run_dir: Path, benchmark: str) -> Path:
    return RunDir(run_dir).predictions(benchmark)


def part_file(run_dir: Path, benchmark: str, rank: int) -> Path:
    """The part file of a rank; its folder is made if needed."""
    path = RunDir(run_dir).predictions_part(benchmark, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def part_files(run_dir: Path, benchmark: str) -> list[Path]:
    """The part files of all ranks, of this command and of earlier ones."""
    return sorted(RunDir(run_dir).answers.glob(f".{benchmark}.*.part"))


def write_prediction(file: TextIO, answer: Answer) -> None:
    """Append one answer as a line of JSON."""
    values = dataclasses.asdict(answer)
    if answer.box_frame is None:  # of boxes alone
        del values["box_frame"]
    file.write(json.dumps(values, ensure_ascii=False) + "\n")


def write_predictions(path: Path, header: PredictionHeader, answers: Iterable[Answer]) -> None:
    """Write a prediction file in one step: a reader sees all of it or nothing."""
    text = io.StringIO()
    values = {name: value for name, value in dataclasses.asdict(header).items() if value is not None}
    text.write(json.dumps(values) + "\n")
    for answer in answers:
        write_prediction(text, answer)
    write_atomic(path, text.getvalue())


def load_predictions(path: Path) -> Predictions | None:
    """The content of a prediction file, whatever it was made from; None without a file or a valid header.

    A last line that was cut is left out. Keys of a line that `Answer` does not have are ignored. Raises `UserError`
    for a file of a newer version.
    """
    header = load_header(path)
    if header is None:
        return None
    with _open(path) as file:
        lines = file.read().splitlines()  # str.splitlines would split at U+2028 too
    predictions = Predictions(header)
    for line in lines[1:]:
        try:
            answer = parse_answer(line)
        except ValueError:  # of JSON, or of UTF-8 where the cut went through a character
            break
        predictions.answers[answer.id] = answer
    return predictions


def load_header(path: Path) -> PredictionHeader | None:
    """The header of a prediction file; None without a file or a valid header. `UserError` for a newer version."""
    try:
        with _open(path) as file:
            header = _parse_header(file.readline())
    except (FileNotFoundError, ValueError, EOFError, lzma.LZMAError):
        return None
    if header.version > VERSION:
        raise UserError(f"{path}: predictions of version {header.version}; this program reads up to {VERSION}")
    return header


def _open(path: Path) -> BinaryIO:
    """A prediction file, or its compressed form in a copy of results."""
    if not path.is_file() and compressed(path).is_file():
        return cast(BinaryIO, lzma.open(compressed(path)))
    return path.open("rb")


def read_predictions(path: Path, key: str) -> dict[str, Answer]:
    """Answers by sample id; none where the file has another key."""
    predictions = load_predictions(path)
    return predictions.answers if predictions and predictions.header.key == key else {}


def read_header(run_dir: Path, benchmark: str) -> PredictionHeader:
    """The header of a benchmark's prediction file, which must be there."""
    header = load_header(predictions_file(run_dir, benchmark))
    assert header is not None, f"no predictions of {benchmark} in {run_dir}"
    return header


def with_current_references(samples: Sequence[Sample], predictions: dict[str, Answer]) -> list[Answer]:
    """Predictions in the order of the samples, with the references and other question fields of the samples."""
    return [
        dataclasses.replace(
            predictions[sample.answer.id], **{name: getattr(sample.answer, name) for name in QUESTION_FIELDS}
        )
        for sample in samples
    ]


def update_scored(run_dir: Path, benchmark: str, answers: list[Answer], config: BenchmarkConfig) -> None:
    """Write the references and settings of a score into the benchmark's prediction file if it holds others."""
    path = predictions_file(run_dir, benchmark)
    predictions = load_predictions(path)
    assert predictions is not None, f"no predictions of {benchmark} in {run_dir}"
    header = dataclasses.replace(predictions.header, benchmark=dataclasses.asdict(config))
    if header != predictions.header or list(predictions.answers.values()) != answers:
        write_predictions(path, header, answers)


def read_parts(run_dir: Path, benchmark: str, key: str) -> dict[str, Answer]:
    """Answers of all ranks so far, of this command and of earlier ones, by sample id."""
    answers: dict[str, Answer] = {}
    for path in part_files(run_dir, benchmark):
        answers |= read_predictions(path, key)
    return answers


def merge_parts(run_dir: Path, benchmark: str, samples: Sequence[Sample], header: PredictionHeader) -> None:
    """Join the part files into the benchmark's prediction file, in the order of its samples, and delete them."""
    answers = read_parts(run_dir, benchmark, header.key)
    in_order = [answers[sample.answer.id] for sample in samples]
    write_predictions(predictions_file(run_dir, benchmark), header, in_order)
    remove_parts(run_dir, benchmark)


def remove_parts(run_dir: Path, benchmark: str) -> None:
    """Delete the part files of a benchmark."""
    for path in part_files(run_dir, benchmark):
        path.unlink()


def _parse_header(line: bytes) -> PredictionHeader:
    try:
        values = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(values, dict) or not isinstance(values.get("key"), str):
        raise ValueError("a header is an object with a key")
    forms = {"version": int, "agreement": dict, "benchmark": dict, "provenance": dict}
    forms |= dict.fromkeys(("dataset_commit", "weights", "questions"), str)
    for name, form in forms.items():
        if values.get(name) is not None and not isinstance(values[name], form):
            raise ValueError(f"{name} of a header is of another type: {values[name]!r:.60}")
    names = {entry.name for entry in dataclasses.fields(PredictionHeader)}
    return PredictionHeader(**{name: value for name, value in values.items() if name in names})
