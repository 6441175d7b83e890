"""Folders of models: settings, weights, tokenizers and adapters that are damaged or of another form."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.bad_bytes import ANY_FILE, JSON_TEXT, NO, NO_OR_FINE, at, dumped, inserted, places
from support.bad_data import FILE, GOOD, write_pictures
from support.bad_input_runner import OTHER, REFUSED, SAME, BadInput, Scene
from support.bad_input_scenes import MODELS, SMALL, link_model, link_world, replace

WEIGHTS, OFFICIAL = MODELS["tiny"], MODELS["llava"]
PARTS = ("backbone", "vision_tower", "projector")
SETTINGS = ("backbone/config.json", "vision_tower/config.json", "vision_tower/preprocessor_config.json")
TENSORS = ("backbone/model.safetensors", "vision_tower/model.safetensors", "projector/projector.safetensors")
NO_SIZE = ("a", None, [], {}, -1, 0, 1e400, 2.5, [[1]], True, 10**7)  # of what is a size in pixels, layers or widths
SIZES = {
    "backbone/config.json": (
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "vocab_size",
        "num_hidden_layers",
    ),
    "vision_tower/config.json": ("hidden_size", "image_size", "patch_size", "num_hidden_layers", "intermediate_size"),
    "vision_tower/preprocessor_config.json": (),
}
ODD = (None, "a", -1, 10**7, [], {}, [[1]], {"a": []}, True, "\ud800", 1e400)


def prepare(folder: Path) -> None:
    link_world(folder)
    link_model("tiny", folder / "model")


def prepare_official(name: str, folder: Path) -> None:
    write_pictures(folder)
    replace(folder / FILE, dumped(GOOD))
    link_model(f"llava/{name}", folder / "lvlm")


MODEL = (
    *(f"model.{part}=@/model/{part}" for part in PARTS),
    "model.tokenizer=@/model",
    "runtime.output_root=@/outputs",
)
CHECK = Scene("model-check", ("check", *SMALL, *MODEL, "benchmark=[tiny_mmlu]"), prepare)
QUESTION = ("image=none", "question=What is red?", "ask.max_new_tokens=4", "job.run=null")
ASK = Scene("model-ask", ("ask", *SMALL, *MODEL, *QUESTION), prepare)

LLAVA = (
    "layer_count=2",
    "model=llava-1.5-7b",
    "instructions.path=@/data.json",
    "instructions.image_folder=@/images",
    "model.num_layers=6",
    f"model.backbone={OFFICIAL}/vicuna-tiny",
    "model.num_image_tokens=16",
)
LLAVA += (
    f"model.vision_tower={OFFICIAL}/clip-vit-tiny-patch14-56",
    "model.image_token='<0x00>'",
    "wandb.mode=disabled",
)
WHOLE = Scene(
    "llava-check",
    ("check", *LLAVA, "model.lvlm=@/lvlm", "benchmark=[]", "runtime.output_root=@/outputs"),
    lambda folder: prepare_official("llava-tiny-v1.5", folder),
)
TUNED = Scene(
    "llava-lora-check",
    ("check", *LLAVA, "model.lvlm=@/lvlm", "benchmark=[]", "runtime.output_root=@/outputs"),
    lambda folder: prepare_official("llava-tiny-v1.5-lora", folder),
)


def checkpoints(rng: random.Random) -> Iterator[BadInput]:
    """Models of parts, in safetensors."""
    while True:
        yield _settings(rng)
        yield _weights(rng)
        file = rng.choice([*SETTINGS, "tokenizer.json", "tokenizer_config.json", *TENSORS])
        ways = ANY_FILE if file in TENSORS else [*ANY_FILE, *JSON_TEXT]
        what, expected, change = rng.choice(ways)
        yield _changed("model file", CHECK, f"model/{file}", what, expected, change, rng)
        file = rng.choice(["tokenizer.json", "tokenizer_config.json"])
        yield _value("tokenizer", ASK, f"model/{file}", rng, frozenset({REFUSED, SAME, OTHER}))


def official_checkpoints(rng: random.Random) -> Iterator[BadInput]:
    """Models and adapters as LLaVA's own code leaves them."""
    while True:
        scene = rng.choice([WHOLE, TUNED])
        folder = OFFICIAL / ("llava-tiny-v1.5" if scene is WHOLE else "llava-tiny-v1.5-lora")
        files = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".bin", ".safetensors")]
        path = rng.choice(files)
        names = (path.name, "lvlm")
        is_json = path.suffix == ".json"
        what, expected, change = rng.choice(
            [*ANY_FILE, *JSON_TEXT] if is_json else [*ANY_FILE, ("inserted", NO_OR_FINE, inserted)]
        )
        if "generation" in path.name or "special" in path.name or "trainer" in path.name:
            expected = NO_OR_FINE
        yield _changed("LLaVA's folder", scene, f"lvlm/{path.name}", what, expected, change, rng, names)
        if is_json:
            yield _value("LLaVA's settings", scene, f"lvlm/{path.name}", rng, frozenset({REFUSED, SAME, OTHER}), names)


def _settings(rng: random.Random) -> BadInput:
    """A size that is none, or any setting of another form."""
    file = rng.choice(SETTINGS)
    if SIZES[file] and rng.random() < 0.6:
        key, new = rng.choice(SIZES[file]), rng.choice(NO_SIZE)

        def change(folder: Path) -> None:
            replace(folder / "model" / file, dumped(at(json.loads((folder / "model" / file).read_text()), (key,), new)))

        return BadInput("model settings", f"{file}: {key} {new!r}", rng.choice([CHECK, ASK]), NO, ("model",), change)
    return _value("model settings", ASK, f"model/{file}", rng, NO_OR_FINE | {OTHER})


def _weights(rng: random.Random) -> BadInput:
    """A file of tensors whose header says something else than its body holds."""
    file = rng.choice(TENSORS)
    content = (WEIGHTS / file).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = rng.choice([name for name in header if name != "__metadata__"])
    what = rng.choice(list(HEADERS))
    text = json.dumps(HEADERS[what](header, name)).encode()
    packed = struct.pack("<Q", len(text)) + text + body
    if what == "a length beyond the file":
        packed = struct.pack("<Q", 2**60) + content[8:]
    if what == "all NaN":
        packed = content[: 8 + length] + struct.pack("<f", float("nan")) * (len(body) // 4)
    scene = ASK if what in ("all NaN", "a tensor is missing", "another name") else CHECK

    def change(folder: Path) -> None:
        replace(folder / "model" / file, packed)

    return BadInput("model weights", f"{file}: {what} ({name})", scene, NO, ("model",), change)


HEADERS: dict[str, Any] = {
    "a length beyond the file": lambda header, name: header,
    "all NaN": lambda header, name: header,
    "a tensor is missing": lambda header, name: {key: value for key, value in header.items() if key != name},
    "another name": lambda header, name: {(f"{key}.x" if key == name else key): value for key, value in header.items()},
    "another shape": lambda header, name: at(header, (name, "shape"), [1, *header[name]["shape"][::-1], 1]),
    "another type": lambda header, name: at(header, (name, "dtype"), "F16"),
    "unknown type": lambda header, name: at(header, (name, "dtype"), "X9"),
    "offsets turned": lambda header, name: at(header, (name, "data_offsets"), header[name]["data_offsets"][::-1]),
    "offsets beyond": lambda header, name: at(header, (name, "data_offsets"), [0, 2**50]),
    "header a list": lambda header, name: [header],
    "header null": lambda header, name: None,
    "no shape": lambda header, name: at(header, (name, "shape"), ...),
}


def _value(
    kind: str, scene: Scene, file: str, rng: random.Random, expected: frozenset[str], names: Any = ()
) -> BadInput:
    """A place in a file of JSON taken away, or of another form."""
    seed, new = rng.random(), rng.choice([..., *ODD])

    def change(folder: Path) -> None:
        good = json.loads((folder / file).read_text())
        top = [place for place in places(good) if len(place) < 4]
        place = random.Random(seed).choice(top)
        replace(folder / file, json.dumps(at(good, place, new)))

    shown = "taken away" if new is ... else repr(new)
    return BadInput(kind, f"{file}: place {seed:.3f} {shown}", scene, expected, names or ("model",), change)


def _changed(
    kind: str, scene: Scene, file: str, what: str, expected: Any, change: Any, rng: random.Random, names: Any = ()
) -> BadInput:
    seed = rng.random()

    def damage(folder: Path) -> None:
        replace(folder / file, change((folder / file).read_bytes(), random.Random(seed)))

    return BadInput(kind, f"{file}: {what}", scene, expected, names or ("model",), damage)
