"""Digests of weights and images by their content."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from vrx.config.paths import resolve_path
from vrx.config.schema import ModelConfig
from vrx.runs.files import digest, file_digest
from vrx.runs.identity import weights_fingerprint
from vrx.runs.surgery_manifest import read_surgery

END_BYTES = 1 << 16  # bytes at either end of an image that stand for it
NUM_SAMPLES = 128  # stretches of a file of weights, of as many bytes, that stand for it


def weights_digest(config: ModelConfig, run_dir: Path) -> str:
    """Stands for the weights that answer: those the LVLM is assembled from, the adapter and projector, and which layers
    were put back or cut out. It does not depend on where the run lies."""
    done = read_surgery(run_dir)
    files = sorted((done.source / "adapter").glob("*.safetensors"))
    adapter = [_full_digest(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    told = [weights_fingerprint(config), _part_digests(config), adapter]
    return digest([*told, done.reverted, done.pruned] if done.reverted or done.pruned else told)


def _part_digests(config: ModelConfig) -> list[str]:
    """Stands for the insides of the local files of weights: a checkpoint that was tuned again, in some layers only, has
    the name, the size and the beginning that it had."""
    found = []
    for part in (config.backbone, config.vision_tower, config.projector, config.lvlm):
        folder = Path(resolve_path(part or ""))
        folder = folder / "adapter" if (folder / "adapter").is_dir() else folder
        for file in sorted(folder.iterdir()) if part and folder.is_dir() else ():
            if file.suffix in (".safetensors", ".bin"):
                found.append(_sampled_digest(file, file.stat().st_size, file.stat().st_mtime_ns))
    return found


@functools.lru_cache(maxsize=1 << 10)  # a command asks before, between and after its stages
def _full_digest(path: Path, size: int, _: int) -> str:
    return file_digest(path)


@functools.lru_cache(maxsize=1 << 10)
def _sampled_digest(path: Path, size: int, _: int) -> str:
    told = hashlib.sha256()
    with path.open("rb") as file:
        for place in range(NUM_SAMPLES):
            file.seek(max(0, size - END_BYTES) * place // (NUM_SAMPLES - 1))
            told.update(file.read(END_BYTES))
    return told.hexdigest()[:16]


def image_digest(path: Path) -> str:
    """Stands for what is in an image file, cheaply: its size and its two ends, which in a compressed format no other
    picture shares. Of a file that is not there its path does."""
    try:
        told = path.stat()
    except FileNotFoundError:
        return str(path)
    return _image_digest(path, told.st_size, told.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 18)
def _image_digest(path: Path, size: int, _: int) -> str:
    with path.open("rb") as file:
        told = hashlib.sha256(f"{size} ".encode() + file.read(END_BYTES))
        file.seek(max(END_BYTES, size - END_BYTES))
        told.update(file.read())
    return told.hexdigest()[:16]
