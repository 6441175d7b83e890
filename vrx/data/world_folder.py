"""Where a world lies: folders named by what the world is made from, which are never replaced by another world."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.runs.durable import partial_folder
from vrx.runs.files import read_json

DESCRIPTION = "world.json"  # in every world's folder: what it is made from


def is_made(folder: Path, description: dict[str, Any]) -> bool:
    """Whether the folder holds this world; leftovers of a killed command are deleted.

    `UserError` where it holds another one, since other runs may be trained or evaluated on that.
    """
    for name in (folder.name, f"{folder.name}.replaced"):
        shutil.rmtree(partial_folder(folder.with_name(name)), ignore_errors=True)
    path = folder / DESCRIPTION
    if not path.is_file():
        return False
    existing = read_json(path)
    if existing == description:
        return True
    existing = existing if isinstance(existing, dict) else {}
    changed = [
        f"{key} {existing.get(key)}, not {value}" for key, value in description.items() if existing.get(key) != value
    ]
    raise UserError(
        f"world.folder={folder}: holds another world ({'; '.join(changed)}), on which other runs may depend; name "
        "another folder, or delete this one if no run needs it"
    )
