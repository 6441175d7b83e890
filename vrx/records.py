"""What a run leaves behind: its identity, its directory, files written whole or not at all, its record."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from vrx.checks import select, selector_name
from vrx.config import RunConfig
from vrx.identity import digest, tuned
from vrx.identity import untouched as untouched
from vrx.identity import weights_fingerprint as weights_fingerprint
from vrx.paths import PACKAGE

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
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk does not say whose write it was
    finally:
        with suppress(OSError):
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


def read_record(path: Path) -> dict[str, Any]:
    """A run's record; what another version added to it stays. A `ValueError` where the file is none."""
    record = read_json(path)
    kinds = {"run_id": str, "identity": dict, "layers": list, "scores": dict}
    entries = {"value", "stderr", "num_samples"}
    try:
        wrong = [key for key, kind in kinds.items() if not isinstance(record[key], kind)]
        wrong += [] if record["train"] is None or isinstance(record["train"], dict) else ["train"]
        wrong += [f"scores.{name}" for name, entry in record["scores"].items() if not entries <= entry.keys()]
        wrong += [] if isinstance(record["identity"]["model"]["num_layers"], int) else ["identity.model.num_layers"]
    except (KeyError, TypeError, AttributeError) as error:
        wrong = [str(error)] if isinstance(error, KeyError) else ["its form"]
    if wrong:
        raise ValueError(f"{path}: not the record of a run, by {wrong[0]}")
    return record


def records_beside(run_dir: Path) -> Iterator[dict[str, Any]]:
    """The records of the runs that lie beside this one, and its own; what is no record is passed over."""
    for path in sorted(run_dir.parent.glob("*/record.json")):
        with suppress(ValueError, OSError):
            yield read_record(path)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines log that may still be written; a last row that was cut is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(run: RunConfig, data_digest: str) -> dict[str, Any]:
    """What is trained by a run, and nothing else; see `vrx/identity.py`."""
    return tuned(run, list(select(run)), data_digest)


def run_directory(run: RunConfig, run_identity: dict[str, Any], *, label: str) -> Path:
    """Where a run lies: the readable part is a label, the hash at the end is the identity.

    A run found under the hash is the run, whatever label an earlier command gave it.
    """
    short = digest(run_identity)[:8]
    folder = Path(run.runtime.output_root).absolute() / run.job.name / re.sub(r"[^\w.-]", "_", run.model.name)
    return next(iter(sorted(folder.glob(f"*_{short}"))), folder / f"{label}_{short}")


def label(run: RunConfig) -> str:
    """The readable part of a fine-tune's directory: sparse_uniform-8_100pct_seed0."""
    return f"{selector_name(run)}-{len(select(run))}_{100 * run.data_fraction.fraction:g}pct_seed{run.seed}"


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
        return [value.get(key) for key in ("model", "train", "data")]

    alike = [record for record in records_beside(run_dir) if size(record["identity"]) == size(run_identity)]
    found = [record["train"]["seconds"] for record in alike if record["train"] and "seconds" in record["train"]]
    return sum(found) / len(found) if found else None


def all_layers_record(run_dir: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """The record that differs from this one only in tuning every layer, where there is one beside it."""

    def rest(value: dict[str, Any]) -> dict[str, Any]:
        return {key: part for key, part in value["identity"].items() if key != "layers"}

    depth = record["identity"]["model"]["num_layers"]
    alike = (other for other in records_beside(run_dir) if len(other["layers"]) == depth)
    return next((other for other in alike if rest(other) == rest(record)), None)
