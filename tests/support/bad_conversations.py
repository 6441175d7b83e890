"""Conversations for models other than LLaVA that are damaged, of another form, or mean what is not known."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet
from support.bad_bytes import ANY_FILE, JSON_TEXT, NO, at, dumped, flipped, inserted, shuffled_value
from support.bad_data import STEPS, ascii_json, write_pictures
from support.bad_input_runner import OTHER, REFUSED, SAME, TOLD, BadInput, Scene
from support.bad_input_scenes import replace

SEEN = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
TEXT = [{"type": "text", "text": "a cat"}]
MESSAGES = [{"role": "user", "content": SEEN}, {"role": "assistant", "content": TEXT}]
GOOD: list[dict[str, Any]] = [
    {"id": str(number), "messages": MESSAGES, "images": [f"p{number}.png"]} for number in (0, 0, 0)
]
GOOD.append({"id": "t", "messages": [{"role": "user", "content": "hi ?"}, {"role": "assistant", "content": "ho ."}]})
ASKED = (
    "benchmark=[gqa]",
    "benchmark.gqa.reader=null",
    "benchmark.gqa.path=@/q.jsonl",
    "benchmark.gqa.max_new_tokens=2",
)
PATH = ("messages", 0, "content")
RECORDS: list[tuple[str, tuple[Any, ...], Any]] = [  # what of record 0 must be refused
    *(("messages", ("messages",), new) for new in (None, 3, "a", {}, [], [[]], [None], ["a"], MESSAGES[:1] * 2, ...)),
    *(("a role", ("messages", 0, "role"), new) for new in (None, 3, "human", "assistant", "tool", "\ud800", ...)),
    *(("content", PATH, new) for new in (None, 3, {}, [], [None], [[]], "\ud800", [{}], [{"type": "video"}], ...)),
    *(("a part", (*PATH, 1), new) for new in ({"type": "text"}, {"type": "text", "text": 3}, {"text": "a"}, "a")),
    *(("a text", (*PATH, 1, "text"), new) for new in (None, 3, [], "\ud800", "<image> and <image>", ...)),
    *(("pictures", ("images",), new) for new in (None, 3, [], {}, [3], [None], [""], ["p0.png", "p0.png"], ...)),
    *(("a path", ("images", 0), new) for new in ("../p0.png", "/etc/passwd", "a\0b", "\ud800", "http://x/y", "no.png")),
    *(("a path", ("images", 0), new) for new in ("x" * 5000, "data:image/png;base64,AAAA", "~/p0.png", "//p0.png")),
    *(("an unknown key", (key,), "x") for key in ("video", "videos", "audio", "tools", "system", "\ud800", "")),
    ("a key of a turn", ("messages", 0, "weight"), 0.5),
]  # fmt: skip


def prepare(folder: Path, ending: str) -> None:
    write_pictures(folder)
    replace(folder / "q.jsonl", dumped({"id": "1", "question": "is it ?", "answers": ["yes"]}) + b"\n")
    replace(folder / f"data.{ending}", packed(GOOD, ending))


def packed(records: Any, ending: str) -> bytes:
    if ending == "json":
        return ascii_json(records)
    if ending == "jsonl":
        return b"".join(ascii_json(record) + b"\n" for record in records)
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(records[:-1]), file)  # one form of content in a column
    return file.getvalue()


def scene(ending: str) -> Scene:
    """A training of one step on a family of tiny sizes."""
    model = (
        "model=smolvlm2-500m",
        "model.lvlm=$/smolvlm",
        "model.num_layers=8",
        "layer_count=2",
        "train.dtype=float32",
    )
    data = (f"instructions.path=@/data.{ending}", "instructions.image_folder=@/images", *ASKED)
    options = ("wandb.mode=disabled", "runtime.output_root=@/outputs", "runtime.num_workers=0")
    return Scene(
        f"conversations-{ending}", ("finetune", *model, *STEPS, *data, *options), lambda at: prepare(at, ending), _rows
    )


def _rows(folder: Path, printed: str) -> Any:
    return sorted(path.parent.name for path in (folder / "outputs" / "data").glob("messages-*/rows.arrow")) != []


def conversations(rng: random.Random) -> Iterator[BadInput]:
    """Files of messages: JSON, JSON Lines, Parquet."""
    while True:
        ending = rng.choice(["json", "jsonl"])
        what, keys, new = rng.choice(RECORDS)
        shown = f"{what}: {'.'.join(map(str, keys))} {'taken away' if new is ... else repr(new)[:40]}"
        yield _file(ending, shown, NO, packed([at(GOOD[0], keys, new), *GOOD[1:]], ending))
        name, expected, change = rng.choice([*ANY_FILE, *(entry for entry in JSON_TEXT if entry[1] == NO)])
        yield _file("json", name, expected, change(dumped(GOOD), rng))
        name, change = rng.choice(
            [("flipped", flipped), ("inserted", inserted), *((each[0], each[2]) for each in ANY_FILE)]
        )
        anyhow = frozenset({REFUSED, SAME, OTHER})
        yield _file(
            "parquet", name, anyhow if name in ("flipped", "inserted") else NO, change(packed(GOOD, "parquet"), rng)
        )
        what, value = shuffled_value(GOOD, rng)
        yield _file("json", f"at random: {what}", anyhow | {TOLD}, ascii_json(value))


def _file(ending: str, name: str, expected: frozenset[str], content: bytes) -> BadInput:
    file = f"data.{ending}"
    put = lambda folder: replace(folder / file, content)  # noqa: E731
    return BadInput(
        "conversations", f"{ending}: {name}", scene(ending), expected, (file, "@/images", "image_folder"), put
    )
