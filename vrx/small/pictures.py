"""The pictures of the small world: things in several art styles, unpacked from packages as PNG files with names."""

from __future__ import annotations

import functools
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image

from vrx.config.errors import UserError
from vrx.runs.files import read_json, write_json

NAMES_FILE = Path(__file__).with_name("names.yaml")
TABLE = "pictures.json"
SIDE = 64  # pixels along a side of a stored picture
FOLDERS = {  # of an art style in its package, and the format of its files
    "noto": ("package/img/google/64/", ".png"),
    "twemoji": ("package/img/twitter/64/", ".png"),
    "fluent": ("package/assets/", ".webp"),
}
EMOJI_TABLE = "package/data/openmoji.json"


@dataclass(frozen=True)
class Names:
    """The content of names.yaml, in everyday words: categories by name, and for each trait who has it and who not."""

    category: dict[str, str]
    traits: dict[str, tuple[frozenset[str], frozenset[str]]]
    originals: dict[str, str]  # the emoji's name by the everyday one


@functools.cache
def known_names() -> Names:
    """Categories and traits of all things."""
    table = yaml.safe_load(NAMES_FILE.read_text(encoding="utf-8"))
    renames = table["renames"]

    def everyday(name: str) -> str:
        return renames.get(name, name)

    def members(names: list[str]) -> frozenset[str]:
        expanded = [member for name in names for member in table["categories"].get(name, [name])]
        return frozenset(map(everyday, expanded))

    traits = {}
    for trait, lists in table["traits"].items():  # YAML reads `yes` and `no` as truth values
        positive = members(lists[True])
        traits[trait] = (positive, members(lists[False]) - positive)
    category = {everyday(name): key for key, names in table["categories"].items() for name in names}
    originals = {everyday(name): name for names in table["categories"].values() for name in names}
    return Names(category, traits, originals)


def unpack_pictures(archives: Mapping[str, Path], names: Path, folder: Path) -> None:
    """Write `<style>/<name>.png` (RGBA, SIDE x SIDE) for each thing that every style shows, and the table of names.

    archives: the package of each style; names: the package with the names of emoji.
    """
    codes = _codes(names)
    missing = sorted(original for original in known_names().originals.values() if original not in codes)
    if missing:
        raise UserError(f"{names}: has no emoji called {', '.join(missing[:3])}")
    files = {style: _files(archive, *FOLDERS[style]) for style, archive in archives.items()}
    wanted = {name: codes[original] for name, original in known_names().originals.items()}
    found = {
        name: {style: _find(by_code, code) for style, by_code in files.items()} for name, code in sorted(wanted.items())
    }
    complete = {name: members for name, members in found.items() if all(members.values())}
    for style, archive in archives.items():
        (folder / style).mkdir(parents=True, exist_ok=True)
        member_names = {members[style]: name for name, members in complete.items()}
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name in member_names:
                    content = tar.extractfile(member)
                    assert content is not None
                    picture = to_picture(content.read())
                    picture.save(folder / style / f"{file_name(member_names[member.name])}")
    write_json(folder / TABLE, {"styles": sorted(archives), "names": sorted(complete)})


def to_picture(content: bytes) -> Image.Image:
    """A picture file of any format as RGBA, SIDE x SIDE."""
    with Image.open(io.BytesIO(content)) as image:
        picture = image.convert("RGBA")
    return picture if picture.size == (SIDE, SIDE) else picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def file_name(name: str) -> str:
    """The file that holds a thing's picture in the folder of a style."""
    return f"{name.replace(' ', '_')}.png"


def read_table(folder: Path) -> tuple[list[str], list[str]]:
    """(styles, names) of a folder of pictures."""
    table = read_json(folder / TABLE)
    return table["styles"], table["names"]


def _codes(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as tar:
        content = tar.extractfile(EMOJI_TABLE)
        assert content is not None
        rows = json.load(content)
    return {row["annotation"]: row["hexcode"].lower() for row in rows if not row["skintone"]}


def _files(archive: Path, folder: str, suffix: str) -> dict[str, str]:
    """The members of a style by the code of their emoji, without the marks of emoji presentation."""
    with tarfile.open(archive) as tar:
        members = [name for name in tar.getnames() if name.startswith(folder) and name.endswith(suffix)]
    return {_plain(member.removeprefix(folder).removesuffix(suffix)): member for member in members}


def _find(by_code: Mapping[str, str], code: str) -> str | None:
    return by_code.get(_plain(code))


def _plain(code: str) -> str:
    return "-".join(part for part in code.split("-") if part != "fe0f")
