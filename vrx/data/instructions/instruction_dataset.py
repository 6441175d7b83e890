"""Instruction data in LLaVA's JSON format: read, validated, and converted to a memory-mapped table."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.config.schema import InstructionsConfig
from vrx.data import json_stream
from vrx.data.arrow_table import TABLE, open_table, write_table
from vrx.data.images.checks import image_errors
from vrx.data.instructions.chat_templates import IMAGE_TAG
from vrx.data.instructions.record_checks import HALF_PAIR, check_image, has_lone_surrogate, refuse_unknown
from vrx.launch.logging import log
from vrx.runs.files import cached_file_digest, read_json, write_json

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset


ROWS_PER_BATCH = 1000
PECULIARITIES = {
    "leading answer": "begin with an answer, which is left out",
    "trailing question": "end with a question: nothing is learned from them",
    "empty answer": "end with an empty answer: nothing is learned from them",
    "tag without image": "have no image but an <image> tag in their text: the tag is taken as text",
    "image without tag": "have an image but no <image> tag in their text: the image is not looked at",
}


class InstructionRow(TypedDict):
    """One row of the table.

    id: empty where the record has none. image: path below `instructions.image_folder`. conversations: JSON text of the
    turns. length: words, as LLaVA counts them; negative for a row without an image.
    """

    id: str
    image: str | None
    conversations: str
    length: int


def data_digest(config: InstructionsConfig, cache: Path | None = None, *, read_only: bool = False) -> str:
    """The sha256 of the instruction file, which represents the data in a run's identity.

    cache: folder that stores the digest until the file's size or modification time changes. read_only: write nothing.
    """
    if config.path is None:
        data = "captions" if config.section == "captions" else "instruction data"
        raise UserError(
            f"{config.section}.path=null: name the {data}, JSON in LLaVA's format, or set data_root=<folder>"
        )
    if not Path(config.path).is_file():
        raise UserError(f"{config.section}.path={config.path}: no such file")
    return cached_file_digest(Path(config.path), cache, read_only=read_only)


def _row(record: object, name: str, peculiarities: Counter[str]) -> InstructionRow:
    """Validate a record of the file and convert it; its peculiarities are counted.

    name: file and number of the record, for the `UserError`, which also names the key.
    """

    def invalid(key: str, reason: str) -> UserError:
        return UserError(f"{name}: {key}: {reason}")

    if not isinstance(record, dict):
        raise UserError(f"{name}: not a JSON object")
    name += f" (id {record.get('id')})" if "id" in record else ""
    refuse_unknown(record, invalid)
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise invalid("conversations", "missing or empty")
    leads = isinstance(turns[0], dict) and turns[0].get("from") == "gpt" and len(turns) > 1
    for number, turn in enumerate(turns):
        key, role = f"conversations[{number}]", ("human", "gpt")[(number + leads) % 2]
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise invalid(key, "needs a text under `value`")
        if has_lone_surrogate(turn["value"]):
            raise invalid(key, HALF_PAIR)
        if turn.get("from") != role:
            raise invalid(f"{key}.from", f"is {turn.get('from')!r}, must be {role!r}: human and gpt alternate")
    peculiarities["leading answer"] += leads
    peculiarities["trailing question"] += turns[-1]["from"] == "human"
    peculiarities["empty answer"] += turns[-1]["from"] == "gpt" and not turns[-1]["value"].strip()
    tags = sum(turn["value"].count(IMAGE_TAG) for turn in turns[leads:])
    image = record.get("image")
    check_image(image, tags, invalid)
    peculiarities["tag without image"] += image is None and tags > 0
    peculiarities["image without tag"] += image is not None and not tags
    plain = [{"from": turn["from"], "value": turn["value"]} for turn in turns]
    words = sum(len(turn["value"].split()) for turn in turns)
    return {
        "id": str(record.get("id", "")).encode(errors="replace").decode(),
        "image": image,
        "conversations": json.dumps(plain, ensure_ascii=False),
        "length": -words if image is None else words,
    }


def _rows(path: Path) -> Iterator[InstructionRow]:
    with tqdm(total=path.stat().st_size, desc="reading instructions", delay=1, unit="B", unit_scale=True) as bar:
        peculiarities: Counter[str] = Counter()
        for number, record in enumerate(json_stream.stream_items(path, while_reading=bar.update)):
            yield _row(record, f"{path}: record {number}", peculiarities)
    for kind, count in peculiarities.items():
        if count:
            log(f"{path}: {count:,} of its conversations {PECULIARITIES[kind]}, as in the official code")


def build_table(config: InstructionsConfig, cache: Path, *, digest: str) -> Path:
    """Validate the data and convert it, once, to a table that all ranks and runs map into memory; returns its folder.

    The columns are those of `InstructionRow`. With `on_bad_image=error` the header of every image is checked here,
    before training; the policy also applies to files that turn out to be broken later.
    """
    assert config.path is not None
    folder = cache / f"conversations-{digest[:16]}"
    if not (folder / TABLE).is_file():
        _convert(Path(config.path), folder)
    image_folder = Path(config.image_folder).resolve() if config.image_folder else None
    checked_images = folder / "images_looked_at.json"
    if checked_images.is_file() and read_json(checked_images) == str(image_folder):
        return folder
    rows = open_table(folder)
    first_rows = first_row_of_images(rows)

    def invalid(row: int, reason: str) -> UserError:
        record_id = rows[row]["id"]
        return UserError(f"{config.path}: record {row}{f' (id {record_id})' if record_id else ''}: image: {reason}")

    if image_folder is None and first_rows:
        name, row = next(iter(first_rows.items()))
        raise invalid(row, f"is {name}, but {config.section}.image_folder is not set")
    if config.image_folder is not None:
        paths = []
        is_checked = config.on_bad_image == "error"
        for name, row in first_rows.items():
            if not is_checked and not Path(name).is_absolute():
                continue  # was checked when the table was made
            try:
                paths.append(inside(Path(config.image_folder), name))
            except UserError as error:
                raise invalid(row, str(error)) from None
        if not is_checked:
            return folder
        for number, reason in image_errors(paths):
            lists_all = "job=check lists all; " if config.section == "instructions" else ""
            hint = f"{lists_all}{config.section}.on_bad_image=skip or replace continues without it"
            raise invalid(list(first_rows.values())[number], f"{reason} ({hint})")
    write_json(checked_images, str(image_folder))
    return folder


def _convert(path: Path, folder: Path) -> None:
    """Write the table of an instruction file, ROWS_PER_BATCH rows at a time."""
    import pyarrow

    columns = {"id": pyarrow.string(), "image": pyarrow.string(), "conversations": pyarrow.string()}
    schema = pyarrow.schema({**columns, "length": pyarrow.int32()})
    write_table(
        folder,
        schema,
        lambda _: _rows(path),
        rows_per_batch=ROWS_PER_BATCH,
        when_empty=f"{path}: must be a JSON list of conversations with at least one",
    )


def first_row_of_images(rows: Dataset) -> dict[str, int]:
    """The index of the first row that names each image."""
    first_rows: dict[str, int] = {}
    number = 0
    for chunk in rows.data.column("image").chunks:
        for name in chunk.to_pylist():
            if name is not None:
                first_rows.setdefault(name, number)
            number += 1
    return first_rows


def word_counts(rows: Dataset) -> np.ndarray:
    """Words of every row, negative for a row without an image: (rows,) int32."""
    return rows.data.column("length").to_numpy()


def draw_subset(num_rows: int, fraction: float, *, seed: int) -> list[int]:
    """The rows of a data fraction; of the same seed, the first 10 % are part of the first 25 %, these of all."""
    order = list(range(num_rows))
    random.Random(f"subset {seed}").shuffle(order)
    return order[: max(1, round(fraction * num_rows))]
