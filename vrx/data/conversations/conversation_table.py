"""Conversations converted to tables on disk, each data set once, in bounded memory.

Each becomes a folder named after its content: `rows.arrow`, mapped into memory, and `pictures/` with the pictures that
were part of the data, named after their content. `vrx.data.conversations.conversation_mixture` reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.config.instruction_sources import InstructionsConfig, InstructionSource, MixedSource
from vrx.data.arrow_table import TABLE, open_table, write_table
from vrx.data.conversations.conversation_mixture import MIXTURE, PICTURES, names_of, pictures_of
from vrx.data.conversations.files import conversation_files, source_digest, stream_records
from vrx.data.conversations.records import PECULIARITIES, Conversation, read_record
from vrx.data.images.checks import image_errors
from vrx.launch.logging import log
from vrx.runs.files import read_json, write_json

ROWS_PER_BATCH = 256
CHECKED = "pictures_checked.json"


def sources(config: InstructionsConfig) -> dict[str, InstructionSource]:
    """The data sets of a run by their part of the configuration: those of the mixture, or the one that is named."""
    if config.mix:
        return {f"{config.section}.mix.{name}": source for name, source in config.mix.items()}
    return {config.section: config}


def mixture_digest(config: InstructionsConfig, cache: Path | None, *, read_only: bool = False) -> str:
    """What represents the data in a run's identity: the digest of one data set, or that of a mixture.

    The digest of a mixture depends on contents and weights, not on names, paths or order.
    """
    parts = _parts(config, cache, read_only=read_only)
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    return hashlib.sha256(json.dumps([part[:2] for part in parts]).encode()).hexdigest()


def build_mixture(config: InstructionsConfig, cache: Path, *, digest: str) -> Path:
    """Validate and convert each data set of a run once; gives the folder that says how they are mixed.

    With `on_bad_image=error` the header of every picture is checked here, before training.
    """
    entries = []
    for part_digest, weight, key in _parts(config, cache):
        source = sources(config)[key]
        folder = cache / f"messages-{part_digest[:16]}"
        if not (folder / TABLE).is_file():
            _convert(source, key, folder)
        _check_pictures(source, key, folder, config)
        image_folder = str(Path(source.image_folder).resolve()) if source.image_folder else None
        entry = {"table": str(folder), "digest": part_digest, "weight": weight, "image_folder": image_folder}
        entries.append({**entry, "source": str(source.path)})
    mixture = cache / f"mixture-{digest[:16]}"
    write_json(mixture / MIXTURE, entries)
    return mixture


def _parts(config: InstructionsConfig, cache: Path | None, *, read_only: bool = False) -> list[tuple[str, float, str]]:
    """Digest, weight and key of each data set, in an order that their contents decide."""
    parts = []
    for key, source in sources(config).items():
        weight = source.weight if isinstance(source, MixedSource) else 1.0
        if not weight > 0:
            raise UserError(f"{key}.weight={weight}: must be above 0; leave the data set out")
        parts.append((source_digest(source, key, cache, read_only=read_only), weight, key))
    return sorted(parts)


def _convert(source: InstructionSource, key: str, folder: Path) -> None:
    """Write the table and the pictures of a data set, a few rows at a time."""
    import pyarrow

    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    columns = {"id": text, "messages": text, "pictures": texts, "has_own_pictures": pyarrow.bool_()}
    schema = pyarrow.schema({**columns, "length": pyarrow.int32()})

    def rows_into(unfinished: Path) -> Iterator[Mapping[str, Any]]:
        (unfinished / PICTURES).mkdir()
        return _rows(source, key, unfinished / PICTURES)

    write_table(
        folder,
        schema,
        rows_into,
        rows_per_batch=ROWS_PER_BATCH,
        when_empty=f"{key}.path={source.path}: holds no conversation",
    )


def _rows(source: InstructionSource, key: str, pictures: Path) -> Iterator[Mapping[str, Any]]:
    files = conversation_files(source, key)
    size = sum(file.stat().st_size for file in files)
    peculiarities: Counter[str] = Counter()
    with tqdm(total=size, desc=f"reading {source.path}", delay=1, unit="B", unit_scale=True) as bar:
        for name, record in stream_records(files, bar.update):
            yield _row(read_record(record, name, peculiarities, source.columns, section=key), name, pictures)
    for kind, count in peculiarities.items():
        if count:
            log(f"{source.path}: {count:,} of its conversations {PECULIARITIES[kind]}")


def _row(conversation: Conversation, name: str, pictures: Path) -> Mapping[str, Any]:
    is_own = [isinstance(picture, bytes) for picture in conversation.pictures]
    if any(is_own) and not all(is_own):
        raise UserError(f"{name}: images: some are paths, some are pictures; valid is one kind in a record")
    names = [_saved(picture, pictures) if isinstance(picture, bytes) else picture for picture in conversation.pictures]
    words = conversation.num_words
    return {
        "id": conversation.id.encode(errors="replace").decode(),
        "messages": json.dumps(conversation.messages, ensure_ascii=False),
        "pictures": names,
        "has_own_pictures": any(is_own),
        "length": words if names else -words,
    }


def _saved(content: bytes, folder: Path) -> str:
    """Write a picture under a name that its content decides, unless it is there; gives the name."""
    name = hashlib.sha256(content).hexdigest()
    path = folder / name[:2] / name
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return f"{name[:2]}/{name}"


def _check_pictures(source: InstructionSource, key: str, folder: Path, config: InstructionsConfig) -> None:
    """Refuse a data set with a picture outside its image folder or, with `on_bad_image=error`, one that cannot be
    opened; then each table and image folder is checked once."""
    image_folder = str(Path(source.image_folder).resolve()) if source.image_folder else None
    marker = folder / CHECKED
    if marker.is_file() and read_json(marker) == image_folder:
        return
    table = open_table(folder)

    def invalid(row: int, reason: str) -> UserError:
        record_id = table[row]["id"]
        return UserError(f"{source.path}: record {row}{f' (id {record_id})' if record_id else ''}: images: {reason}")

    if image_folder is None and (named := next(names_of(table), None)):
        raise invalid(named[0], f"is {named[1]}, but {key}.image_folder is not set")
    first_rows: dict[Path, int] = {}
    try:
        for row, file in pictures_of(table, folder, image_folder):
            first_rows.setdefault(file, row)
    except UserError as error:
        raise UserError(f"{source.path}: {error}") from None
    if config.on_bad_image != "error":
        return
    files = list(first_rows)
    for number, reason in image_errors(files):
        raise invalid(first_rows[files[number]], f"{reason} ({config.section}.on_bad_image=skip or replace continues)")
    write_json(marker, image_folder)
