"""Instruction data and pictures that are damaged, of another form, or mean what is not known."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from support import bad_bytes
from support.bad_bytes import ANY_FILE, ANYHOW, FINE, JSON_TEXT, NO, at, dumped, shuffled_value
from support.bad_input_runner import OTHER, SAME, TOLD, BadInput, Scene
from support.bad_input_scenes import SMALL, link_world, replace

from vrx.config.errors import BadImage
from vrx.data.images.processing import open_rgb

FILE = "data.json"
FORMS = {
    "png": "PNG",
    "jpg": "JPEG",
    "webp": "WEBP",
    "gif": "GIF",
    "avif": "AVIF",
    "bmp": "BMP",
    "tif": "TIFF",
    "dds": "DDS",
}
TEXTS = ["What is it?", "a red square", "And this?", "naïve 图"]
GOOD: list[dict[str, Any]] = [
    {
        "id": f"r{number}",
        "image": f"p{number}.{ending}",
        "conversations": [
            {"from": ("human", "gpt")[turn % 2], "value": ("<image>\n" if turn == 0 else "") + text}
            for turn, text in enumerate(TEXTS)
        ],
    }
    for number, ending in enumerate(FORMS)
]
GOOD.append({"id": "t", "conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "ho"}]})
TURNS = GOOD[0]["conversations"]
RECORDS: list[tuple[str, frozenset[str], tuple[Any, ...], Any]] = [  # what of record 0 is changed, and to what
    *(("turns", NO, ("conversations",), new) for new in (None, 3, "a", {}, [], [[]], [None], ["a"], ...)),
    *(("a turn", NO, ("conversations", 1), new) for new in (None, 3, [], {}, {"from": "gpt"}, {"value": "x"})),
    *(("a text", NO, ("conversations", 1, "value"), new) for new in (None, 3, [], {}, "\ud800", "a\udfff", ...)),
    *(("who speaks", NO, ("conversations", 1, "from"), new) for new in (None, 3, "human", "user", "", "\ud800", ...)),
    *(
        ("a picture's path", NO, ("image",), new)
        for new in (3, [], {}, "", "../p0.png", "/etc/passwd", "a\0b", "\ud800")
    ),
    *(
        ("a picture's path", NO, ("image",), new)
        for new in ("nowhere.png", "http://x/p0.png", ["p0.png"], ".", "x" * 5000)
    ),
    *(("an unknown key", NO, (key,), "a.mp4") for key in ("video", "images", "system_prompt", "\ud800", "")),
    *(("a key of origin", FINE, (key,), 3) for key in ("width", "source")),
    ("two tags", NO, ("conversations", 0, "value"), "<image><image>\nWhat?"),
    ("no tag", frozenset({TOLD}), ("conversations", 0, "value"), "What?"),
    ("no picture", frozenset({TOLD}), ("image",), ...),
    ("one turn", frozenset({TOLD}), ("conversations",), TURNS[:1]),
    ("answer first", frozenset({TOLD}), ("conversations",), [{"from": "gpt", "value": "x"}, *TURNS]),
    ("empty answer", frozenset({TOLD}), ("conversations",), [*TURNS[:3], {"from": "gpt", "value": " "}]),
    ("id", frozenset({SAME, OTHER}), ("id",), [1]),
    ("id", frozenset({SAME, OTHER}), ("id",), "\ud800"),
    ("long text", frozenset({OTHER, TOLD, SAME}), ("conversations", 1, "value"), "long " * 20_000),
]


def write_pictures(folder: Path) -> None:
    for number, (ending, form) in enumerate(FORMS.items()):
        picture = Image.effect_noise((40, 30), 80).convert("RGB")
        replace(folder / "images" / f"p{number}.{ending}", _encoded(picture, form))


def _encoded(picture: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


def prepare(folder: Path) -> None:
    link_world(folder)
    write_pictures(folder)
    replace(folder / FILE, dumped(GOOD))


def result(folder: Path, printed: str) -> Any:
    """The rows of the converted data; and the pictures that cannot be decoded, which must have been told."""
    tables = (folder / "outputs" / "data").glob("conversations-*/rows.arrow")
    rows = sorted(hashlib.sha256(table.read_bytes()).hexdigest() for table in tables)
    broken = [
        path.name for path in sorted((folder / "images").iterdir()) if _is_broken(path) and path.name not in printed
    ]
    return rows, broken


def _is_broken(path: Path) -> bool:
    try:
        open_rgb(path)
    except BadImage:
        return True
    return False


CHECK = ("check", *SMALL, "benchmark=[tiny_gqa]", f"instructions.path=@/{FILE}", "instructions.image_folder=@/images")
CHECK += ("runtime.output_root=@/outputs",)
DATA = Scene("data", CHECK, prepare, result)
DECODED = Scene("pictures", (*CHECK, "check.decode=true"), prepare, result)
SKIPPED = Scene("skipped", (*CHECK, "check.decode=true", "instructions.on_bad_image=skip"), prepare, result)
STEPS = ("train.max_steps=1", "train.global_batch_size=4", "train.micro_batch_size=4", "engine.name=torch")
CAPTIONS = [{**row, "conversations": [*row["conversations"][:2]]} for row in GOOD[:-1]]


def _prepare_captions(folder: Path) -> None:
    prepare(folder)
    replace(folder / FILE, dumped(CAPTIONS))


PRETRAIN = ("pretrain", *SMALL, *STEPS, "benchmark=[]", f"captions.path=@/{FILE}", "captions.image_folder=@/images")
CAPTIONED = Scene(
    "captions", (*PRETRAIN, "runtime.output_root=@/outputs"), _prepare_captions, lambda folder, said: None
)


def instruction_files(rng: random.Random) -> Iterator[BadInput]:
    """Files of instruction data."""
    while True:
        name, expected, change = rng.choice([*ANY_FILE, *JSON_TEXT])
        yield _file("instruction file", name, DATA, expected, change(dumped(GOOD), rng))
        for _ in range(3):
            what, expected, keys, new = rng.choice(RECORDS)
            shown = f"{what}: {'.'.join(map(str, keys))} {'taken away' if new is ... else repr(new)[:40]}"
            content = ascii_json([at(GOOD[0], keys, new), *GOOD[1:]])
            yield _file("instruction record", shown, DATA, expected, content)
        what, value = shuffled_value(GOOD, rng)
        yield _file("instruction record", f"at random: {what}", DATA, ANYHOW, ascii_json(value))


def captions(rng: random.Random) -> Iterator[BadInput]:
    """Files of captions, which a projector is pre-trained on."""
    while True:
        name, expected, change = rng.choice([entry for entry in (*ANY_FILE, *JSON_TEXT) if entry[1] == NO])
        yield _file("captions", name, CAPTIONED, expected, change(dumped(CAPTIONS), rng))
        refused = [entry for entry in RECORDS if entry[1] == NO or entry[0] in ("no tag", "no picture", "one turn")]
        what, _, keys, new = rng.choice(refused)
        content = ascii_json([at(CAPTIONS[0], keys, new), *CAPTIONS[1:]]) if keys != ("conversations", 2) else b""
        yield _file("captions", f"{what} {new!r:.40}", CAPTIONED, NO, content)


def pictures(rng: random.Random) -> Iterator[BadInput]:
    """Pictures of every format: refused by name, or left out where that is asked for."""
    bombs = {"bomb": _png(60_000, 60_000), "no pixels": _png(0, 10), "2 billion wide": _png(2**31 - 1, 2**31 - 1)}
    while True:
        number, (ending, _) = rng.choice(list(enumerate(FORMS.items())))
        path = f"images/p{number}.{ending}"
        scene, expected = rng.choice([(DECODED, NO), (SKIPPED, frozenset({TOLD}))])
        choice = rng.randrange(4)
        if choice == 0:
            name, _, change = rng.choice([entry for entry in ANY_FILE if entry[0] != "cut"])
        elif choice == 1:
            name, content = rng.choice(list(bombs.items()))
            change = lambda _, __, content=content: content  # noqa: E731
        else:  # these may leave a picture that can be decoded
            name, change = rng.choice(
                [("flipped", bad_bytes.flipped), ("inserted", bad_bytes.inserted), ("cut", bad_bytes.cut)]
            )
            expected = expected | {SAME}

        def damage(folder: Path, path: str = path, change: Any = change, seed: float = rng.random()) -> None:
            replace(folder / path, change((folder / path).read_bytes(), random.Random(seed)))

        yield BadInput("picture", f"{ending} {name}", scene, expected, (Path(path).name,), damage)


def _png(width: int, height: int) -> bytes:
    """A picture that says it has this size, and holds a line of it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def ascii_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def _file(kind: str, name: str, scene: Scene, expected: frozenset[str], content: bytes) -> BadInput:
    return BadInput(
        kind, name, scene, expected, (FILE, "image_folder", "@/images"), lambda folder: replace(folder / FILE, content)
    )
