"""Reading JSON, JSON Lines and tables, plain or packed; damaged files are refused by name."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from vrx.config.errors import UserError
from vrx.runs.files import pointer_error
from vrx.runs.json_text import InvalidJson, parse_json

UNPACKING_ERRORS = (  # of a damaged archive, one with a password or of another method, and one of gigabytes of zeros
    *(EOFError, OSError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile),
    *(IndexError, ValueError, RuntimeError, MemoryError, OverflowError, struct.error),
)
LARGEST = 1 << 32  # bytes of an unpacked file
MAX_CELL_SIZE = 1 << 27  # characters; some tables hold images as text


def read_unpacked(path: Path) -> bytes:
    """The content of a file, of the only file in an archive, or of a gzip file, unpacked."""
    try:
        return _unpacked(path)
    except UNPACKING_ERRORS as error:
        raise UserError(f"{path}: damaged, cannot be unpacked: {str(error) or type(error).__name__}") from None


def read_text(path: Path) -> str:
    """The content of a text file, which may be packed."""
    try:
        return read_unpacked(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: {error}") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file, which may be packed."""
    content = read_unpacked(path)
    try:
        return parse_json(content)
    except InvalidJson as error:
        raise UserError(f"{path}: {pointer_error(content) or error}") from None


def read_json_lines(path: Path) -> list[Any]:
    """The rows of a JSON Lines file, which may be packed; an invalid row is refused by its line number."""
    rows = []
    for number, line in enumerate(read_unpacked(path).splitlines(), start=1):
        try:
            rows.append(parse_json(line, is_line=True))
        except InvalidJson as error:
            raise UserError(f"{path}: {pointer_error(line) or f'line {number}: {error}'}") from None
    return rows


def read_table(
    path: Path, *, delimiter: str = ",", columns: list[str] | None = None, quoted: bool = True
) -> Iterator[dict[str, str | None]]:
    """The rows of a table by column name: those of its header, or `columns` if it has none.

    A row that is too short lacks its last columns. A cell may hold `MAX_CELL_SIZE` characters.
    """
    text = io.StringIO(read_text(path), newline="")
    csv.field_size_limit(MAX_CELL_SIZE)
    rows = csv.reader(text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    try:
        header = columns or next(rows, [])
        for row in rows:
            is_longer = len(row) > len(header)
            yield dict(itertools.zip_longest(header, row)) if is_longer else dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise UserError(f"{path}: line {rows.line_num}: not a table: {error}") from None


def _unpacked(path: Path) -> bytes:
    if path.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(path) as archive:
            member = next((member for member in archive if member.isfile()), None)
            content = archive.extractfile(member) if member else None
            if content is None:
                raise UserError(f"{path}: holds no file")
            return _limited(content)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as content:
            return _limited(content)
    if path.suffix == ".gz":
        with gzip.open(path) as content:
            return _limited(content)
    return path.read_bytes()


def _limited(file: IO[bytes] | gzip.GzipFile) -> bytes:
    content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST >> 30} GiB")
    return content
