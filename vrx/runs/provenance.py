"""Versions, machine and source of a record."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from typing import Any

from vrx.config.paths import PACKAGE

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "datasets", "accelerate", "safetensors", "numpy", "pillow")


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
