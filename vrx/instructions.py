"""Instruction data in LLaVA's JSON format: read, refused where it is wrong, kept as a memory-mapped table."""

from __future__ import annotations

import functools
import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from tqdm import tqdm

from vrx.config import InstructionsConfig
from vrx.paths import inside
from vrx.records import file_digest, read_json, write_json

if TYPE_CHECKING:
    from datasets import Dataset

TAG = "<image>"


def data_digest(config: InstructionsConfig) -> str:
    """sha256 of the instruction file, which stands for the data in a run's identity."""
    if config.path is None:
        raise ValueError("instructions.path=null: name the instruction data, a JSON file in LLaVA's format")
    if not Path(config.path).is_file():
        raise FileNotFoundError(f"instructions.path={config.path}: no such file")
    told = Path(config.path).stat()
    return _digest_of(Path(config.path), told.st_size, told.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _digest_of(path: Path, size: int, mtime_ns: int) -> str:
    """A sweep asks for each of its runs, and the real files are a gigabyte."""
    return file_digest(path)


def _check(record: Any, where: str, folder: Path | None, check_image: bool) -> dict[str, str | None]:
    """One row of the table; `ValueError` naming file, record and key."""

    def refuse(key: str, why: str) -> ValueError:
        return ValueError(f"{where}: {key}: {why}")

    if not isinstance(record, dict):
        raise ValueError(f"{where}: not a JSON object")
    where += f" (id {record.get('id')})" if "id" in record else ""
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise refuse("conversations", "missing or empty")
    for number, turn in enumerate(turns):
        key, role = f"conversations[{number}]", ("human", "gpt")[number % 2]
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise refuse(key, "needs a text under `value`")
        if turn.get("from") != role:
            raise refuse(f"{key}.from", f"is {turn.get('from')!r}, must be {role!r}: human and gpt alternate")
    if len(turns) % 2:
        raise refuse(f"conversations[{len(turns) - 1}]", "a question without an answer")
    if not turns[-1]["value"].strip():
        raise refuse(f"conversations[{len(turns) - 1}].value", "the last answer is empty")
    tags = sum(turn["value"].count(TAG) for turn in turns)
    image = record.get("image")
    if image is None:
        if any(turn["value"].strip().startswith(TAG) or turn["value"].strip().endswith(TAG) for turn in turns):
            raise refuse("image", f"missing, but the conversation has an {TAG} tag")
    elif not isinstance(image, str) or not image:
        raise refuse("image", f"is {image!r}, must be one path")
    elif tags > 1:
        raise refuse("conversations", f"{tags} {TAG} tags for one image")
    elif folder is None:
        raise refuse("image", f"is {image}, but instructions.image_folder is not set")
    else:
        try:
            path = inside(folder, image)
        except ValueError as error:
            raise refuse("image", str(error)) from None
        if check_image:
            _look_at(path, refuse)
    plain = [{"from": turn["from"], "value": turn["value"]} for turn in turns]
    return {"id": str(record.get("id", "")), "image": image, "conversations": json.dumps(plain, ensure_ascii=False)}


def _look_at(path: Path, refuse: Any) -> None:
    """Cheap look at an image file: is it there, and does its header tell a format."""
    try:
        with Image.open(path):
            pass
    except FileNotFoundError:
        raise refuse("image", f"{path} does not exist (instructions.on_bad_image=skip or replace goes on)") from None
    except Exception as error:
        raise refuse("image", f"{path} is not readable: {error}") from None


def table(config: InstructionsConfig, cache: Path, *, digest: str) -> Path:
    """Check the data and convert it, once, to a table all ranks and runs map into memory; gives its folder.

    Columns: `id`, `image` (or null), `conversations` (JSON text). With `on_bad_image=error` every image's header is
    looked at here, before training; files found broken later fall under the same policy then.
    """
    assert config.path is not None
    check_images = config.on_bad_image == "error"
    folder = cache / f"instructions-{digest[:16]}"
    image_folder = Path(config.image_folder).resolve() if config.image_folder else None
    done = folder / ("images_checked.json" if check_images else "rows_checked.json")
    if done.is_file() and read_json(done) == str(image_folder):
        return folder
    records = read_json(Path(config.path))
    if not isinstance(records, list) or not records:
        raise ValueError(f"{config.path}: must be a JSON list of conversations with at least one")
    rows = [
        _check(record, f"{config.path}: record {number}", image_folder, check_images)
        for number, record in enumerate(tqdm(records, desc="checking instructions", delay=1, unit=" records"))
    ]
    if not (folder / "dataset_info.json").is_file():
        import datasets

        datasets.disable_progress_bars()
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        features = datasets.Features(dict.fromkeys(("id", "image", "conversations"), datasets.Value("string")))
        datasets.Dataset.from_list(rows, features=features).save_to_disk(str(partial))
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    write_json(done, str(image_folder))
    return folder


def open_table(folder: Path) -> Dataset:
    import datasets

    return datasets.load_from_disk(str(folder))  # type: ignore[return-value]


def subset(num_rows: int, fraction: float, *, seed: int) -> list[int]:
    """The rows of a data fraction, in an order drawn once: 10 % lies inside 25 % inside 100 % of the same seed."""
    order = list(range(num_rows))
    random.Random(f"subset {seed}").shuffle(order)
    return order[: max(1, round(fraction * num_rows))]
