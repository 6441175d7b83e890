"""Tables of converted data: a folder with `rows.arrow`, written in bounded memory and mapped into memory."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrx.config.errors import UserError
from vrx.runs.durable import partial_folder, put_in_place

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import Schema

TABLE = "rows.arrow"


def write_table(
    folder: Path,
    schema: Schema,
    rows_into: Callable[[Path], Iterator[Mapping[str, Any]]],
    *,
    rows_per_batch: int,
    when_empty: str,
) -> None:
    """Write a folder with the table of these rows, a batch at a time; it gets its name when it is complete.

    rows_into: gives the rows; its argument is the unfinished folder, in which it may write further files. `UserError`,
    with the text `when_empty`, where there is no row.
    """
    import pyarrow

    partial = partial_folder(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        empty = True
        with pyarrow.OSFile(str(partial / TABLE), "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
            rows = rows_into(partial)
            while batch := list(itertools.islice(rows, rows_per_batch)):
                writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))
                empty = False
        if empty:
            raise UserError(when_empty)
        put_in_place(partial, folder)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # Arrow does not name the file
            raise OSError(error.errno, os.strerror(error.errno), str(folder)) from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def open_table(folder: Path) -> Dataset:
    """The table in a folder, mapped into memory."""
    import datasets

    return datasets.Dataset.from_file(str(folder / TABLE))
