"""Checks of a model's files that load no weights: missing and truncated files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from vrx.config.errors import UserError
from vrx.config.paths import resolve_path
from vrx.config.schema import ModelConfig
from vrx.jobs.check.findings import Finding
from vrx.models import fit
from vrx.models.file_names import (
    ADAPTER_WEIGHTS,
    MODEL_WEIGHTS,
    OFFICIAL_BESIDE_ADAPTER,
    OFFICIAL_PROJECTOR,
    PROJECTOR_FILE,
    TOKENIZERS,
    indexed_files,
    shard_index,
)
from vrx.runs.files import read_json_object, refuse_pointer
from vrx.runs.hub import cached_checkpoint, download_command
from vrx.runs.tuned_checkpoint import base_checkpoint

WEIGHTS = (*MODEL_WEIGHTS, *ADAPTER_WEIGHTS)
PROJECTORS = (PROJECTOR_FILE, OFFICIAL_PROJECTOR)
WITH_ADAPTER = (PROJECTOR_FILE, OFFICIAL_BESIDE_ADAPTER)


def weights(model: ModelConfig) -> Iterator[Finding]:
    """Checks every part of the model: on this machine, complete, and in a known layout."""
    for key, alternatives in _required_files(model):
        name = getattr(model, key)
        if key == "lvlm" and not model.is_assembled:
            name = base_checkpoint(name)
        title = "tokenizer" if alternatives == (TOKENIZERS,) else f"model.{key}"
        folder, download = cached_checkpoint(name), f"{download_command(name)} --exclude '*/*'"
        if folder is None:
            yield Finding(title, f"{name} is not on this machine; run: {download}", bad=True)
            continue
        problem = next(filter(None, (_problem(folder, names) for names in alternatives)), None)
        if problem is None:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9
            yield Finding(title, f"{name}, {size:.3g} GB")
            continue
        is_local = Path(resolve_path(name)).is_dir()
        yield Finding(title, f"{name}: {problem}" + ("" if is_local else f"; run: {download}"), bad=True)


def parts(model: ModelConfig) -> list[Finding]:
    """Checks every part of the model and, where all are complete, whether they fit together."""
    findings = list(weights(model))
    if not any(finding.bad for finding in findings):
        try:
            fit.require_fit(model)
        except UserError as error:
            findings.append(Finding("parts", str(error), bad=True))
    return findings


def _required_files(model: ModelConfig) -> list[tuple[str, tuple[tuple[str, ...], ...]]]:
    """Configuration key of each part with the files it needs; one file of each inner tuple suffices."""
    if not model.is_assembled:
        lvlm = ("lvlm", (MODEL_WEIGHTS, ("config.json",), ("preprocessor_config.json", "processor_config.json")))
        return [lvlm, ("lvlm" if model.tokenizer is None else "tokenizer", (TOKENIZERS,))]
    tower = ("vision_tower", (WEIGHTS, ("config.json",), ("preprocessor_config.json",)))
    backbone = ("backbone", (WEIGHTS, ("config.json",)))
    tokenizer = (_tokenizer_key(model), (TOKENIZERS,))
    if model.lvlm is None:
        return [tower, backbone, ("projector", (PROJECTORS,)), tokenizer]
    if _is_adapter(cached_checkpoint(model.lvlm)):
        return [tower, backbone, ("lvlm", (WEIGHTS, WITH_ADAPTER)), tokenizer]
    return [tower, ("lvlm", (WEIGHTS,)), tokenizer]


def _is_adapter(folder: Path | None) -> bool:
    """Whether a folder is a LoRA output or a fine-tuned run, which needs its backbone too."""
    candidates = [folder, folder / "adapter"] if folder else []
    return any((candidate / "adapter_config.json").is_file() for candidate in candidates)


def _tokenizer_key(model: ModelConfig) -> str:
    """The configuration key of the part that brings the tokenizer; a complete LVLM may lack one."""
    if model.tokenizer is not None or model.lvlm is None:
        return "backbone" if model.tokenizer is None else "tokenizer"
    folder = cached_checkpoint(model.lvlm)
    return "lvlm" if folder is None or any((folder / name).is_file() for name in TOKENIZERS) else "backbone"


def _problem(folder: Path, names: tuple[str, ...]) -> str | None:
    """What is wrong with a folder that needs one of these files, in one piece or in shards; None if nothing is."""
    folder = folder / "adapter" if (folder / "adapter").is_dir() else folder  # a fine-tuned run
    for name in names:
        files = [name] if (folder / name).is_file() else indexed_files(shard_index(folder, name))
        if not files:
            continue
        missing = [file for file in files if not (folder / file).is_file()]
        if missing:
            return f"{len(missing)} of {len(files)} shards missing, the first {missing[0]}"
        return next(filter(None, (_damage(folder / file) for file in files)), None)
    return f"contains no {' or '.join(names)}"


def _damage(path: Path) -> str | None:
    """What is wrong with a file of weights, a tokenizer or a configuration, which is not read; None if nothing is."""
    damaged = f"{path.name} is truncated or damaged; delete it and download it again"
    if path.stat().st_size == 0:
        return damaged
    try:
        refuse_pointer(path)
        if path.suffix == ".json":
            read_json_object(path)
        if path.suffix == ".safetensors":
            with safe_open(path, framework="np"):  # compares the size of the file with its header; reads no tensor
                return None
    except UserError as error:
        return f"{damaged} ({str(error).removeprefix(f'{path}: ')})"
    except SafetensorError:
        return damaged
    with path.open("rb") as file:
        is_cut = path.suffix == ".bin" and file.read(2) == b"PK" and not zipfile.is_zipfile(path)
    return damaged if is_cut else None
