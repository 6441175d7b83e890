"""What a run leaves behind: its identity, its directory, files written whole or not at all, its record."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from vrx.checks import select
from vrx.config import ModelConfig, RunConfig
from vrx.paths import PACKAGE, located

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "datasets", "accelerate", "safetensors", "numpy", "pillow")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever kills us."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file; a broken one is a `ValueError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON, line {error.lineno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error}") from None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines log that may still be written; a last row that was cut is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def digest(value: Any) -> str:
    """sha256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_fingerprint(config: ModelConfig) -> dict[str, str]:
    """What tells one set of weights from another, cheaply: of a local folder the names and sizes of the files and the
    first MiB of each, of a hub id the id."""
    found = {}
    for part in ("backbone", "vision_tower", "projector"):
        folder = Path(located(getattr(config, part)))
        if not folder.is_dir():
            found[part] = getattr(config, part)
            continue
        told = hashlib.sha256()
        for file in sorted(folder.iterdir()):
            if file.suffix in (".safetensors", ".bin", ".json"):
                with file.open("rb") as stream:
                    told.update(f"{file.name} {file.stat().st_size} ".encode() + stream.read(1 << 20))
        found[part] = told.hexdigest()[:16]
    return found


def _given(part: Any) -> dict[str, Any]:
    """The fields of a configuration that have a value."""
    return {key: value for key, value in dataclasses.asdict(part).items() if value is not None}


def untouched(run: RunConfig) -> dict[str, Any]:
    """The identity of an LVLM that was not tuned."""
    return {"model": _given(run.model), "weights": weights_fingerprint(run.model)}


def identity(run: RunConfig, data_digest: str) -> dict[str, Any]:
    """What is trained, and nothing else: not where it runs, not what is measured on it, not the selector's name.

    A field that is null is no part of it, so that a new option leaves the runs made before it what they are.
    """
    return {
        **untouched(run),
        "layers": list(select(run)),
        "data": {
            "sha256": data_digest,
            "fraction": run.data_fraction.fraction,
            "on_bad_image": run.instructions.on_bad_image,
        },
        "lora": _given(run.lora),
        "train": _given(run.train),
        "engine": _given(run.engine),
        "seed": run.seed,
    }


def run_directory(run: RunConfig, run_identity: dict[str, Any], *, label: str) -> Path:
    """Where a run lies: the readable part is a label, the hash at the end is the identity.

    A run found under the hash is the run, whatever label an earlier command gave it.
    """
    short = digest(run_identity)[:8]
    folder = Path(run.runtime.output_root).absolute() / run.job.name / re.sub(r"[^\w.-]", "_", run.model.name)
    return next(iter(sorted(folder.glob(f"*_{short}"))), folder / f"{label}_{short}")


def label(run: RunConfig) -> str:
    """The readable part of a fine-tune's directory: sparse_uniform-8_100pct_seed0."""
    selector = "layers" if run.selector.layers and run.selector._target_ != "vrx.selectors.fixed" else run.selector.name
    return f"{selector}-{len(select(run))}_{100 * run.data_fraction.fraction:g}pct_seed{run.seed}"


def provenance() -> dict[str, Any]:
    """Versions, machine and source of a record."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    command = ["git", "-C", str(PACKAGE), "rev-parse", "--verify", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except FileNotFoundError:
        commit = None
    return {
        "git_commit": commit if (PACKAGE.parent / ".git").exists() else None,
        "vrx": importlib.metadata.version("vrx"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": versions,
    }


def typical_seconds(run_dir: Path, run_identity: dict[str, Any]) -> float | None:
    """What runs beside this one took to train, those of as many steps on as much data; None where there is none."""

    def size(value: dict[str, Any]) -> list[Any]:
        return [value["model"], value["train"], value["data"]]

    found = []
    for path in run_dir.parent.glob("*/record.json"):
        record = read_json(path)
        if record["train"] and size(record["identity"]) == size(run_identity):
            found.append(record["train"]["seconds"])
    return sum(found) / len(found) if found else None


def all_layers_record(run_dir: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """The record that differs from this one only in tuning every layer, where there is one beside it."""

    def rest(value: dict[str, Any]) -> dict[str, Any]:
        return {key: part for key, part in value["identity"].items() if key != "layers"}

    depth = record["identity"]["model"]["num_layers"]
    for path in sorted(run_dir.parent.glob("*/record.json")):
        other = read_json(path)
        if len(other["layers"]) == depth and rest(other) == rest(record):
            return other
    return None
