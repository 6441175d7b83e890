"""What an offline run of W&B leaves on disk, read back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def read_offline_run(folder: Path) -> list[dict[str, Any]]:
    """All records of the newest offline run below a folder."""
    path = max((folder / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime)
    inspected = subprocess.run(
        [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in inspected.stdout.splitlines()]


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The records of one kind: run, history, summary, artifact."""
    return [record[kind] for record in records if record["type"] == kind]
