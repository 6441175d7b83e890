"""The pictures of the small world: emoji in several art styles, drawn from packages of SVG as PNG files."""

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
from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.runs.files import read_json, write_json

NAMES_FILE = Path(__file__).with_name("names.yaml")
TABLE = "pictures.json"
SIDE = 128  # pixels along a side of a stored picture
MIN_STYLES = 5  # that show a thing; one that fewer show is left out: it leaves too few pictures to learn from
ICONS = "package/icons.json"  # of a style's package, in Iconify's format
BOX = (("left", 0), ("top", 0), ("width", 16), ("height", 16))  # keys of an icon and Iconify's defaults


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


def unpack_pictures(archives: Mapping[str, Path], folder: Path) -> None:
    """Write `<style>/<name>.png` (RGBA, SIDE x SIDE) for each thing and style that shows it, and the table of names.

    archives: the npm package of each style, whose icons are SVG under the names of Unicode. `UserError` for a package
    without icons.
    """
    icons = {style: _read_icons(archive) for style, archive in archives.items()}
    slugs = {name: original.replace(" ", "-") for name, original in sorted(known_names().originals.items())}
    styles_of = {name: sorted(style for style in icons if slug in icons[style]) for name, slug in slugs.items()}
    shown = {name: styles for name, styles in styles_of.items() if len(styles) >= MIN_STYLES}
    with tqdm(total=sum(map(len, shown.values())), desc="drawing pictures", delay=1, leave=False) as bar:
        for style in icons:
            (folder / style).mkdir(parents=True)
        for name, styles in shown.items():
            for style in styles:
                draw_svg(icons[style][slugs[name]]).save(folder / style / file_name(name))
                bar.update()
    write_json(folder / TABLE, {"styles": shown})


def draw_svg(svg: str) -> Image.Image:
    """An SVG picture as RGBA, SIDE x SIDE."""
    import resvg_py  # type: ignore[import-not-found]  # of the extra [small]

    with Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE))) as image:
        return image.convert("RGBA")


def file_name(name: str) -> str:
    """The file that holds a thing's picture in the folder of a style."""
    return f"{name.replace(' ', '_')}.png"


def read_table(folder: Path) -> dict[str, list[str]]:
    """The names of a folder of pictures, each with the styles that show it; `UserError` for an older table."""
    styles = read_json(folder / TABLE)["styles"]
    if not isinstance(styles, dict) or any(len(shown_by) < MIN_STYLES for shown_by in styles.values()):
        raise UserError(f"{folder}: made by an older vrx; remove this folder, then run python -m vrx.small.prepare")
    return styles


def _read_icons(archive: Path) -> dict[str, str]:
    """SVG by the name of the icon or of its alias."""
    with tarfile.open(archive) as tar:
        if ICONS not in tar.getnames():
            raise UserError(f"{archive}: has no {ICONS}")
        content = tar.extractfile(ICONS)
        assert content is not None
        table = json.load(content)
    icons = {}
    for name, icon in table["icons"].items():
        size = [icon.get(key, table.get(key, default)) for key, default in BOX]
        icons[name] = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{" ".join(map(str, size))}">{icon["body"]}</svg>'
        )
    return {
        name: icons[alias["parent"]] for name, alias in table.get("aliases", {}).items() if alias["parent"] in icons
    } | icons
