"""The conversations that a run trains on: the rows of several converted tables, each as often as its weight says."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.data.arrow_table import open_table
from vrx.runs.files import read_json

PICTURES, MIXTURE = "pictures", "mixture.json"


@dataclass(frozen=True)
class ConversationRow:
    """One conversation: its id, empty where it has none, its messages, and the files of its pictures in order.

    source: the file, folder or hub id that it is of.
    """

    id: str
    messages: list[dict[str, Any]]
    pictures: list[Path]
    source: str


class MixedRows(Sequence[ConversationRow]):
    """The conversations of a mixture in a fixed order; each data set's rows as often as its weight says."""

    def __init__(self, folder: Path) -> None:
        self.entries: list[dict[str, Any]] = read_json(folder / MIXTURE)
        self.tables = [open_table(Path(entry["table"])) for entry in self.entries]
        drawn = [
            drawn_rows(len(table), entry["weight"], seed=entry["digest"])
            for table, entry in zip(self.tables, self.entries, strict=True)
        ]
        self.rows = np.concatenate(drawn)
        self.parts = np.repeat(np.arange(len(drawn)), [len(rows) for rows in drawn])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ConversationRow:  # type: ignore[override]
        part = int(self.parts[index])
        row, entry = self.tables[part][int(self.rows[index])], self.entries[part]
        own = Path(entry["table"]) / PICTURES
        folder = own if row["has_own_pictures"] else Path(entry["image_folder"] or ".")
        messages = json.loads(row["messages"])
        pictures = [inside(folder, name) for name in row["pictures"]]
        return ConversationRow(row["id"], messages, pictures, entry["source"])

    def word_counts(self) -> np.ndarray:
        """Words of every row, negative for one without a picture: (rows,) int32."""
        columns = [table.data.column("length").to_numpy() for table in self.tables]
        return np.concatenate([column[self.rows[self.parts == part]] for part, column in enumerate(columns)])

    def picture_files(self) -> list[Path]:
        """The distinct pictures of all data sets."""
        return _picture_files(zip(self.tables, self.entries, strict=True))


def picture_files(folder: Path) -> list[Path]:
    """The distinct pictures of a mixture, whichever of its rows are drawn."""
    return _picture_files((open_table(Path(entry["table"])), entry) for entry in read_json(folder / MIXTURE))


def _picture_files(parts: Iterable[tuple[Any, dict[str, Any]]]) -> list[Path]:
    """parts: the table of each data set and its entry in the mixture."""
    files: dict[Path, None] = {}
    for table, entry in parts:
        files |= dict.fromkeys(file for _, file in pictures_of(table, Path(entry["table"]), entry["image_folder"]))
    return list(files)


def drawn_rows(num_rows: int, weight: float, *, seed: str) -> np.ndarray:
    """Every row floor(weight) times, and a random share of them once more; in order, the same for the same seed."""
    copies, share = math.floor(weight), weight - math.floor(weight)
    order = list(range(num_rows))
    random.Random(f"mixture {seed}").shuffle(order)
    more = order[: round(share * num_rows)]
    return np.sort(
        np.concatenate([np.tile(np.arange(num_rows), copies), np.array(more, dtype=np.int64)]).astype(np.int64)
    )


def pictures_of(table: Any, folder: Path, image_folder: str | None) -> Iterator[tuple[int, Path]]:
    """The row and the file of each picture of a table; `UserError` for an absolute path outside the image folder."""
    for row, name, is_own in _pictures(table):
        try:
            yield row, inside(folder / PICTURES if is_own else Path(image_folder or "."), name)
        except UserError as error:
            raise UserError(f"record {row}: images: {error}") from None


def names_of(table: Any) -> Iterator[tuple[int, str]]:
    """The row and the name of each picture in the image folder."""
    return ((row, name) for row, name, is_own in _pictures(table) if not is_own)


def _pictures(table: Any) -> Iterator[tuple[int, str, bool]]:
    """Row and name of each picture of a table, and whether it was part of the data."""
    number = 0
    for batch in table.data.select(["pictures", "has_own_pictures"]).to_batches():
        columns = batch.to_pydict()
        for names, is_own in zip(columns["pictures"], columns["has_own_pictures"], strict=True):
            yield from ((number, name, is_own) for name in names)
            number += 1
