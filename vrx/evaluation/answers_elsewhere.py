"""Answers as other evaluation programs write and read them: LLaVA's scripts, VLMEvalKit, lmms-eval.

LLaVA: JSON Lines with `question_id` and `text`. VLMEvalKit: a table, or a list of objects, with `index` and
`prediction`. lmms-eval: JSON Lines of samples with `filtered_resps` or `resps`, whose `doc` has the question's own id
where the task kept it; `doc_id` is the position in the task's data. Our own prediction files are read, too.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.plain_text import visible
from vrx.evaluation.families import LETTERS, Sample

TEXT_KEYS = ("prediction", "filtered_resps", "resps", "text")
ID_KEYS = ("question_id", "questionId", "index", "id", "doc_id")
TABLES = {".tsv": "\t", ".csv": ","}
MAX_CELL = 131_072  # characters of a table's cell, unless the whole file is longer
SHOWN = 5  # ids in an error
FORMULA = re.compile(r"\s*[=+\-@]")


def read_answers(path: Path, ids: Sequence[str], *, key: str) -> dict[str, str]:
    """The text of each answer in a file of another program, by the id of its question.

    ids: the questions of the benchmark. key: the option that named the file. `UserError` for a file of another form,
    for an id that is unknown or answered twice, and for a question without an answer.
    """
    known, answers = set(ids), dict[str, str]()
    unknown: list[str] = []
    for number, row in enumerate(_rows(path, key=key), start=1):
        question, text = _id(row, known), _text(row)
        if question is None or text is None:
            what = f"an id ({', '.join(ID_KEYS)}) and a text ({', '.join(TEXT_KEYS)})"
            raise UserError(f"{key}={path}: row {number} is no answer; valid are objects with {what}")
        if question in answers:
            raise UserError(f"{key}={path}: row {number} answers question {visible(question[:40])} a second time")
        if question not in known:
            unknown.append(question)
        answers[question] = text
    if unknown:
        raise UserError(
            f"{key}={path}: {len(unknown)} ids that the benchmark does not have: {_some(unknown)}; its ids are like "
            f"{_some(list(ids))}"
        )
    if missing := [question for question in ids if question not in answers]:
        raise UserError(f"{key}={path}: no answer to {len(missing)} of {len(ids)} questions: {_some(missing)}")
    return answers


def box_frame(sample: Sample, *, key: str) -> tuple[float, float] | None:
    """Width and height of a sample's picture in the coordinates of boxes; None where `box_scale` is not set.

    key: that of the benchmark. `UserError` for `resized`, a size that answers from elsewhere do not come with.
    """
    if sample.box_scale is None:
        return None
    if sample.box_scale == "resized":
        raise UserError(
            f"{key}.box_scale=resized: a file of texts does not tell the size of a resized picture; valid is a number, "
            "such as 1000"
        )
    return float(sample.box_scale), float(sample.box_scale)


def as_llava(samples: Sequence[Sample], texts: Mapping[str, str], *, model: str, benchmark: str) -> str:
    """JSON Lines, as LLaVA's evaluation scripts read them."""
    rows = (
        {
            "question_id": sample.answer.id,
            "prompt": sample.prompt,
            "text": texts[sample.answer.id],
            "answer_id": f"{benchmark}-{sample.answer.id}",
            "model_id": model,
            "metadata": {},
        }
        for sample in samples
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_vlmevalkit(samples: Sequence[Sample], texts: Mapping[str, str], *, model: str, benchmark: str) -> str:
    """A table separated by tabs, as VLMEvalKit reads it with `PRED_FORMAT=tsv`.

    An apostrophe stands before a text that a spreadsheet would take for a formula, unless it is a number.
    """
    letters = LETTERS[: max((len(sample.answer.choices) for sample in samples), default=0)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["index", "category", "question", *letters, "answer", "prediction"])
    for sample in samples:
        answer = sample.answer
        choices = [*(choice or "" for choice in answer.choices), *[""] * (len(letters) - len(answer.choices))]
        gold = answer.references[0] if len(answer.references) == 1 else json.dumps(answer.references or answer.box)
        row = [answer.id, answer.question_type, sample.prompt, *choices, gold, texts[answer.id]]
        writer.writerow([_no_formula(value) for value in row])
    return text.getvalue()


def as_lmms_eval(samples: Sequence[Sample], texts: Mapping[str, str], *, model: str, benchmark: str) -> str:
    """A log that lmms-eval's model `from_log` answers from; `doc_id` is the position of the question.

    `task` is our name of the benchmark: it must be that of lmms-eval's task, which must have the same order.
    """
    logs = [
        {
            "doc_id": position,
            "doc": {"question_id": sample.answer.id},
            "target": sample.answer.references[0] if sample.answer.references else sample.answer.box,
            "resps": [[texts[sample.answer.id]]],
            "filtered_resps": [texts[sample.answer.id]],
        }
        for position, sample in enumerate(samples)
    ]
    arguments = {"model": model, "model_args": "", "limit": None}
    content = {"args": arguments, "model_configs": {"task": benchmark}, "logs": logs}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


WRITERS: Mapping[str, tuple[str, Callable[..., str]]] = {  # folder: (ending of the files, what they hold)
    "llava": ("jsonl", as_llava),
    "vlmevalkit": ("tsv", as_vlmevalkit),
    "lmms_eval": ("json", as_lmms_eval),
}


def _rows(path: Path, *, key: str) -> Iterator[Any]:
    """The rows of a table, of JSON Lines, or of a list in JSON; the header of our own files is left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{key}={path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{key}={path}: is no text in UTF-8: {error.reason} at byte {error.start}") from None
    if path.suffix.lower() in TABLES:
        yield from _table(text, TABLES[path.suffix.lower()], f"{key}={path}")
        return
    try:
        content = json.loads(text) if path.suffix.lower() == ".json" else _json_lines(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{key}={path}: not valid JSON: {error}; valid are .jsonl, .json, .tsv and .csv") from None
    if isinstance(content, dict):
        content = content.get("logs")
    if not isinstance(content, list):
        raise UserError(f"{key}={path}: holds no list of answers")
    yield from content


def _table(text: str, delimiter: str, source: str) -> Iterator[Any]:
    """The rows of a table, each an object; `source` begins the error for one that cannot be read."""
    limit = csv.field_size_limit(max(MAX_CELL, len(text)))
    try:
        yield from csv.DictReader(io.StringIO(text), delimiter=delimiter)
    except csv.Error as error:
        raise UserError(f"{source}: cannot be read as a table: {error}") from None
    finally:
        csv.field_size_limit(limit)


def _json_lines(text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {getattr(error, 'msg', error)}") from None
    is_ours = bool(rows) and isinstance(rows[0], dict) and "key" in rows[0] and "text" not in rows[0]
    return rows[1:] if is_ours else rows


def _id(row: Any, known: set[str]) -> str | None:
    """The id of a row's question: the first that the benchmark has, else the first at all."""
    if not isinstance(row, dict):
        return None
    places = [row.get("doc"), row] if isinstance(row.get("doc"), dict) else [row]
    values = [place[name] for place in places for name in ID_KEYS if place.get(name) is not None]
    ids = [str(value) for value in values if isinstance(value, str | int)]
    return next((each for each in ids if each in known), ids[0] if ids else None)


def _text(row: Any) -> str | None:
    if not isinstance(row, dict):
        return None
    value = next((row[name] for name in TEXT_KEYS if row.get(name) is not None), None)
    while isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if math.isfinite(value) else None  # NaN is what pandas writes for an answer that is missing
    return value if isinstance(value, str) else None


def _some(ids: Sequence[str]) -> str:
    return ", ".join(visible(each[:40]) for each in ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")


def _no_formula(value: str) -> str:
    is_number = re.fullmatch(r"\s*[+-]?\d+([.,]\d+)*\s*%?\s*", value)
    return f"'{value}" if FORMULA.match(value) and not is_number else value
