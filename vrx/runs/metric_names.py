"""Names of a benchmark's further means in old records, by suffix of the metric's name."""

from __future__ import annotations

from typing import Any

RENAMED_SUFFIXES = {  # of schema version 1: of version 2; where two match, the longer one comes first
    "_per_type_and_answer_harmonic": "_normalized_harmonic_mean_per_type",
    "_per_type_and_answer": "_normalized_mean_per_type",
    "_per_type_harmonic": "_harmonic_mean_per_type",
    "_per_type": "_mean_per_type",
    "_every_row": "_all_rotations",
    "_first_pass": "_first_rotation",
}


def migrate_metric_names(entry: Any) -> Any:
    """A benchmark's entry of a version 1 record with the metric names of version 2; anything else is returned as is."""
    if not isinstance(entry, dict) or not isinstance(entry.get("metrics"), dict):
        return entry
    metrics = {}
    for name, value in entry["metrics"].items():
        suffix = next((old for old in RENAMED_SUFFIXES if name.endswith(old)), "")
        metrics[name.removesuffix(suffix) + RENAMED_SUFFIXES.get(suffix, "")] = value
    return {**entry, "metrics": metrics}
