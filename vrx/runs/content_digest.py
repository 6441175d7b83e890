"""Digests of weights, tokenizers and images by their content, whatever their names and wherever they are."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vrx.config.paths import resolve_path
from vrx.config.schema import ModelConfig
from vrx.runs.files import digest, file_digest
from vrx.runs.hub import hub_commit, split_revision
from vrx.runs.results import copied_weights
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import read_surgery
from vrx.runs.trained_files import require_unchanged
from vrx.runs.tuned_checkpoint import base_checkpoint

PARTS = ("backbone", "vision_tower", "projector", "lvlm")  # of a model, with weights
HEAD_BYTES = 1 << 20  # of each file of weights, in its fingerprint
NUM_SAMPLES = 128  # stretches of a file of weights that stand for its content
SAMPLE_BYTES = 1 << 16  # of each stretch, and of either end of an image
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
CHAT_TEMPLATE = "chat_template.jinja"  # of a model that is one checkpoint; others have their template in the code


def weights_fingerprint(config: ModelConfig, parts: Sequence[str] | None = None) -> dict[str, str]:
    """One value for each part of a model: 16 hex digits of a folder's content, or the commit of a hub repository.

    A folder's content is the name, the size and the first MiB of each of its files of weights and configurations. A
    repository that neither the cache nor the hub knows is named by its id. parts: by default all that the model has.
    """
    parts = parts or [part for part in PARTS if getattr(config, part)]
    return {part: part_fingerprint(getattr(config, part)) for part in parts}


def content_digests(config: ModelConfig, parts: Sequence[str] = PARTS) -> dict[str, str]:
    """What fingerprints leave out: the tokenizer, and stretches throughout the weights of each part's local folder.

    A checkpoint of which only some layers were trained further has the sizes and the beginning that it had.
    """
    contents = {"tokenizer": _tokenizer_digest(config)}
    for part in parts:
        large = [file for file in _weight_files(getattr(config, part)) if file.stat().st_size > HEAD_BYTES]
        if large:
            contents[part] = digest([_sampled_digest(file, *_state(file)) for file in large])[:16]
    return contents


def weights_digest(config: ModelConfig, run_dir: Path) -> str:
    """Digest of the weights that answer: the parts of the LVLM, the adapter with its projector, and the layers that
    were reverted or pruned. It does not depend on where the run directory is. `UserError` for a damaged adapter."""
    if (recorded := copied_weights(run_dir)) is not None:
        return recorded
    surgery = read_surgery(run_dir)
    require_unchanged(surgery.source)
    files = sorted(RunDir(surgery.source).adapter.glob("*.safetensors"))
    adapter = [_full_digest(file, *_state(file)) for file in files]
    parts = (config.backbone, config.vision_tower, config.projector, config.lvlm)
    samples = [_sampled_digest(file, *_state(file)) for part in parts for file in _weight_files(part)]
    content = [weights_fingerprint(config), samples, adapter]
    if surgery.reverted or surgery.pruned:
        content += [surgery.reverted, surgery.pruned]
    return digest(content)


def image_digest(path: Path) -> str:
    """Digest of an image file: its size and its two ends, which no two compressed images share.

    A missing image is named by its path.
    """
    try:
        return _image_digest(path, *_state(path))
    except FileNotFoundError:
        return str(path)


def part_fingerprint(name: str) -> str:
    """The fingerprint of a folder by its content, of a hub repository by its commit, else its id."""
    folder = Path(resolve_path(name))
    if not folder.is_dir():
        return hub_commit(*split_revision(name)) or name
    adapter = folder / "adapter"  # of a finished run
    files = sorted((adapter if adapter.is_dir() else folder).iterdir())
    return _digest_of_heads(file for file in files if file.suffix in (".safetensors", ".bin", ".json"))


def _tokenizer_digest(config: ModelConfig) -> str:
    """Of `model.tokenizer`, else of the LVLM's own, else of the backbone's."""
    name = config.tokenizer or config.backbone or base_checkpoint(str(config.lvlm))
    if config.tokenizer is None and config.lvlm is not None:
        folder = Path(resolve_path(config.lvlm))
        has_tokenizer = any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model"))
        name = config.lvlm if has_tokenizer or not folder.is_dir() else name
    folder = Path(resolve_path(name))
    if not folder.is_dir():
        return part_fingerprint(name)
    files = TOKENIZER_FILES if config.is_assembled else (*TOKENIZER_FILES, CHAT_TEMPLATE)
    return _digest_of_heads(folder / file for file in files if (folder / file).is_file())


def _digest_of_heads(files: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            content.update(f"{file.name} {file.stat().st_size} ".encode() + stream.read(HEAD_BYTES))
    return content.hexdigest()[:16]


def _weight_files(part: str | None) -> Iterator[Path]:
    """The files of weights of a part that is a local folder."""
    folder = Path(resolve_path(part or ""))
    if not part or not folder.is_dir():
        return
    adapter = folder / "adapter"
    for file in sorted((adapter if adapter.is_dir() else folder).iterdir()):
        if file.suffix in (".safetensors", ".bin"):
            yield file


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change, by which the digests below are cached: a command needs each several times."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=1 << 10)
def _full_digest(path: Path, size: int, _: int) -> str:
    return file_digest(path)


@functools.lru_cache(maxsize=1 << 10)
def _sampled_digest(path: Path, size: int, _: int) -> str:
    content = hashlib.sha256()
    with path.open("rb") as file:
        for number in range(NUM_SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * number // (NUM_SAMPLES - 1))
            content.update(file.read(SAMPLE_BYTES))
    return content.hexdigest()[:16]


@functools.lru_cache(maxsize=1 << 18)
def _image_digest(path: Path, size: int, _: int) -> str:
    with path.open("rb") as file:
        content = hashlib.sha256(f"{size} ".encode() + file.read(SAMPLE_BYTES))
        file.seek(max(SAMPLE_BYTES, size - SAMPLE_BYTES))
        content.update(file.read())
    return content.hexdigest()[:16]
