"""Frozen configurations of older versions, brought to the schema of this one.

Schema 1, of files without `schema_version`, named code by dotted paths, under `_target_` or as a value, and had the old
names of the keys and values in `vrx/config/renames.py`.
"""

from __future__ import annotations

from typing import Any

from vrx.config.errors import UserError
from vrx.config.renames import renamed_key, renamed_value

SCHEMA_VERSION = 2
VERSION_KEY = "schema_version"

TARGET_KEYS = {"selector": "rule", "world": "name"}  # the key that replaces `_target_` in each part of the run
TARGET_POSITIONS = {"world": -3}  # of the short name among the parts of the dotted path; the last part elsewhere


def migrate_config(config: dict[str, Any], *, source: str) -> dict[str, Any]:
    """A frozen run as plain values, in this version's schema and without its version.

    source: names the file in errors. `UserError` for a file of a newer version.
    """
    version = config.get(VERSION_KEY, 1)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UserError(
            f"{source}: configuration of schema version {version}; this vrx reads versions up to {SCHEMA_VERSION}, "
            "use a newer vrx"
        )
    config = {key: value for key, value in config.items() if key != VERSION_KEY}
    return _from_version_1(config) if version < 2 else config


def migrate_benchmark(settings: dict[str, Any]) -> dict[str, Any]:
    """A benchmark's settings in this version's schema."""
    settings = _rename(settings, "benchmark.any")
    if "_target_" in settings:
        settings["family"] = _short_name(settings.pop("_target_"))
    for key in ("metric", "aggregate"):
        if isinstance(settings.get(key), str):
            settings[key] = _short_name(settings[key])
    if isinstance(settings.get("reader"), str):
        settings["reader"] = _reader_name(settings["reader"])
    extra = settings.get("extra_metrics") or {}
    return {**settings, "extra_metrics": {name: _short_name(metric) for name, metric in extra.items()}}


def _from_version_1(config: dict[str, Any]) -> dict[str, Any]:
    migrated = {}
    for part, value in config.items():
        if not isinstance(value, dict):
            migrated[part] = value
        elif part == "benchmark":
            migrated[part] = {name: migrate_benchmark(settings) for name, settings in value.items()}
        else:
            settings = _rename(value, part)
            target = settings.pop("_target_", None)
            if target is not None and part in TARGET_KEYS:
                settings[TARGET_KEYS[part]] = target.split(".")[TARGET_POSITIONS.get(part, -1)]
            migrated[part] = settings
    return migrated


def _rename(settings: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The same settings under the keys, and with the values, of this version."""
    renamed = {}
    for key, value in settings.items():
        names = renamed_key(f"{prefix}.{key}")
        new_key = names[1].rpartition(".")[2] if names else key
        new_value = renamed_value(f"{prefix}.{new_key}", value) if isinstance(value, str) else None
        renamed[new_key] = value if new_value is None else new_value
    return renamed


def _short_name(path: str) -> str:
    """`vrx.metrics.gqa_match` is `gqa_match`; a name that is short already stays."""
    return path.rpartition(".")[2] if path.startswith("vrx.") else path


def _reader_name(path: str) -> str:
    """`vrx.readers.gqa.rows` is `gqa`, `vrx.readers.texts.pile` is `pile`."""
    parts = path.removesuffix(".rows").split(".")
    return parts[-1] if path.startswith("vrx.") else path
