"""Where a benchmark's questions come from: files of the official download, or a data set of the hub with its images."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from vrx.config.errors import UserError
from vrx.config.paths import inside

csv.field_size_limit(1 << 27)  # images stand in some tables as text


class Item(dict[str, Any]):
    """One record of a source, which knows whose it is: what is missing is refused by benchmark, sample and column."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        super().__init__(values)
        self.where = where

    def __missing__(self, column: str) -> Any:
        raise self.refuse(column, f"is missing; there are {', '.join(map(str, self))}")

    def refuse(self, column: str, why: str) -> UserError:
        return UserError(f"{self.where}: column {column} {why}")

    def text(self, column: str) -> str:
        """A text that is not blank."""
        value = self[column]
        if not isinstance(value, str | int | float) or not str(value).strip():
            raise self.refuse(column, f"is {value!r}, must be a text")
        return str(value)

    def texts(self, column: str) -> list[str]:
        """A list of at least one text."""
        value = self[column]
        if not isinstance(value, list | tuple) or not value or any(entry is None for entry in value):
            raise self.refuse(column, f"is {value!r}, must be a list of at least one text")
        return [str(entry) for entry in value]

    def letter(self, column: str, number: int) -> str:
        """An index of `number` choices as a letter."""
        value = self[column]
        if not isinstance(value, int) or not 0 <= value < number:
            raise self.refuse(column, f"is {value!r}, must be the index of one of {number} choices")
        return chr(ord("A") + value)


class Source:
    """The data that `benchmark.<name>.path` names; its readers ask it for records and hand it images to keep.

    `path` is a file or folder of the official download, a folder that `datasets` reads, or a hub id. `images` is the
    folder where pictures that come inside the data are written, once. `revision` is the commit, tag or branch of a hub
    id; null: its main branch.
    """

    def __init__(
        self, name: str, path: str, subset: str | None, split: str | None, images: Path, *, revision: str | None = None
    ) -> None:
        self.name, self.path, self.subset, self.split, self.images = name, path, subset, split, images
        self.revision = revision
        self.key = f"benchmark.{name}"

    def official(self, *patterns: str) -> list[Path]:
        """The files of the official download that match the first pattern that any does; none where it is not here."""
        place = Path(self.path)
        if place.is_file():
            return [place] if any(place.match(pattern) for pattern in patterns) else []
        for pattern in patterns if place.is_dir() else ():
            found = sorted(path for path in place.rglob(pattern) if path.is_file() and path.name[0] not in "._")
            if found:
                return found
        return []

    def of_split(self, pattern: str, split: str) -> list[Path]:
        """As `official`, of the files of a split, whose name stands in the pattern's braces; that they are of others
        only is refused."""
        files = self.official(pattern.format(split))
        if not files and (others := self.official(pattern.format("*"))):
            there = ", ".join(dict.fromkeys(path.name for path in others[:5]))
            raise UserError(f"{self.key}.split={self.split}: {self.path} holds no {pattern.format(split)}, but {there}")
        return files

    def must_be(self, option: str, *valid: str) -> None:
        """Refuse another split or subset than there are."""
        if getattr(self, option) not in valid:
            raise UserError(f"{self.key}.{option}={getattr(self, option)}: valid are {', '.join(valid)}")

    def beside(self, *patterns: str) -> list[Path]:
        """As `official`, of files that go with the one that `path` names: in its folder, and below it."""
        place = Path(self.path)
        folder = place if place.is_dir() else place.parent
        beside = Source(self.name, str(folder), self.subset, self.split, self.images)
        return beside.official(*patterns)

    def items(self, records: Iterable[Any], of: str = "") -> Iterator[Item]:
        """Records as items; one that is no JSON object is refused."""
        for number, values in enumerate(records):
            where = f"{self.key}: {of + ' ' if of else ''}sample {number}"
            if not isinstance(values, dict):
                raise UserError(f"{where}: is {str(values)[:40]!r}, must be an object with named columns")
            yield Item(values, where)

    def hub(self, *, subset: str | None = None) -> Iterator[Item]:
        """The rows of a data set of the hub, or of a folder that holds one; no code of it is run."""
        import datasets

        datasets.disable_progress_bars()
        subset, place = subset or self.subset, Path(self.path)
        told = f"{self.key}.path={self.path} subset={subset} split={self.split}"
        try:
            if (place / "dataset_dict.json").is_file() or (place / "dataset_info.json").is_file():
                data = datasets.load_from_disk(self.path)
                data = data[self.split] if isinstance(data, datasets.DatasetDict) else data
            elif place.is_dir() and not (place / "README.md").is_file():  # without one there are no subsets
                data = datasets.load_dataset(self.path, split=self.split)
            else:
                data = datasets.load_dataset(self.path, subset, split=self.split, revision=self.revision)
        except Exception as error:  # of a dozen kinds, from `datasets`, the hub's client and the network below it
            raise UserError(f"{told}: {' '.join(str(error).split())[:300]}") from None
        assert isinstance(data, datasets.Dataset), "one split of a data set that is not streamed is one table"
        for column, feature in data.features.items():
            if isinstance(feature, datasets.Image):
                data = data.cast_column(column, datasets.Image(decode=False))
        return self.items(data)

    def subsets(self) -> list[str]:
        """The names of the subsets of a hub's data set."""
        import datasets

        try:
            return datasets.get_dataset_config_names(self.path, revision=self.revision)
        except Exception as error:
            raise UserError(f"{self.key}.path={self.path}: {' '.join(str(error).split())[:300]}") from None

    def keep(self, item: Item, name: str, *, column: str = "image") -> str:
        """Write the image that stands in a record, as it came, if it is not there yet; gives its name with its ending.

        `name` is the record's own name for it, which must stay inside the folder.
        """
        value = item[column]
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None and isinstance(value, dict) and value.get("path"):
            content = Path(value["path"]).read_bytes()
        if not isinstance(content, bytes):
            raise item.refuse(column, f"holds {type(content).__name__}, must hold an image")
        try:
            with Image.open(io.BytesIO(content)) as image:
                ending = (image.format or "png").lower().replace("jpeg", "jpg")
        except (OSError, ValueError, SyntaxError) as error:
            raise item.refuse(column, f"is no image: {error}") from None
        path = inside(self.images, f"{name}.{ending}")
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return path.relative_to(self.images).as_posix()

    def nothing(self, *wanted: str) -> UserError:
        return UserError(f"{self.key}.path={self.path}: holds none of {', '.join(wanted)}")


def is_hub_id(path: str) -> bool:
    """Whether a path can only be a data set of the hub: `owner/name`, and no such file."""
    parts = path.split("/")
    return len(parts) == 2 and all(parts) and not path.startswith((".", "~")) and not Path(path).exists()


def opened(path: Path) -> bytes:
    """The content of a file, of the only file in an archive, or of a gzip file, unpacked."""
    try:
        return _unpacked(path)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, IndexError) as error:
        raise UserError(f"{path}: damaged, cannot be unpacked: {error}") from None


def _unpacked(path: Path) -> bytes:
    if path.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(path) as archive:
            member = next((member for member in archive if member.isfile()), None)
            content = archive.extractfile(member) if member else None
            if content is None:
                raise UserError(f"{path}: holds no file")
            return content.read()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(archive.namelist()[0])
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def read_json(path: Path) -> Any:
    """The content of a JSON file; a broken one is refused by name."""
    try:
        return json.loads(opened(path))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None


def read_lines(path: Path) -> list[Any]:
    """The rows of a JSON Lines file; a broken one is refused by line."""
    rows = []
    for number, line in enumerate(opened(path).splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}: line {number}: not valid JSON: {error}") from None
    return rows


def read_table(
    path: Path, *, delimiter: str = ",", columns: list[str] | None = None, quoted: bool = True
) -> Iterator[dict[str, Any]]:
    """The rows of a table, by its own header or by the given columns; a row of another length lacks some."""
    try:
        text = io.StringIO(opened(path).decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: {error}") from None
    rows = csv.reader(text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    head = columns or next(rows, [])
    for row in rows:
        yield dict(itertools.zip_longest(head, row)) if len(row) > len(head) else dict(zip(head, row, strict=False))
