"""Provenance: the code, the versions and the machine that a result was made with."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass, field
from typing import Any

from vrx.config.paths import PACKAGE

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "datasets", "accelerate", "safetensors", "numpy", "pillow")


@dataclass
class Provenance:
    """What a result was made with; a field is None where it is not known."""

    git_commit: str | None = None
    dirty: bool | None = None  # the working tree had uncommitted changes
    vrx: str | None = None
    python: str | None = None
    machine: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    device_name: str | None = None
    device_count: int | None = None  # processes, one a device
    tf32: bool | None = None  # whether float32 matrix products may use TF32
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunProvenance:
    """Provenance of a run's training (None: not trained) and of the answers to each benchmark."""

    train: Provenance | None = None
    evaluations: dict[str, Provenance] = field(default_factory=dict)


def current_provenance(
    *, device_name: str | None = None, device_count: int | None = None, tf32: bool | None = None
) -> Provenance:
    """The provenance of what this process makes now; the device's facts come from a process that has torch."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit, dirty = _git_state()
    return Provenance(
        git_commit=commit,
        dirty=dirty,
        vrx=importlib.metadata.version("vrx"),
        python=platform.python_version(),
        machine=platform.machine(),
        versions=versions,
        device_name=device_name,
        device_count=device_count,
        tf32=tf32,
    )


def _git_state() -> tuple[str | None, bool | None]:
    """The commit of the package's checkout and whether tracked files differ from it; None twice outside a checkout."""
    if not (PACKAGE.parent / ".git").exists():
        return None, None
    commit = _git("rev-parse", "--verify", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return commit or None, None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    """The output of a git command in the package's checkout; None where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
