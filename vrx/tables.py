"""Tables: pure functions of records."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def average(record: Record, names: list[str]) -> float | None:
    """Mean score of the named benchmarks; None where the record lacks one."""
    values = [record["scores"][name]["value"] for name in names if name in record["scores"]]
    return sum(values) / len(values) if values and len(values) == len(names) else None


def row(record: Record, all_layers: Record | None) -> str:
    """A run's table row as text: each benchmark with its standard error in percent, the average, and the share of the
    run that tunes all layers, where there is one."""
    names = list(record["scores"])
    cells = [
        (name, f"{100 * entry['value']:.2f} ±{100 * entry['stderr']:.2f}") for name, entry in record["scores"].items()
    ]
    mean = average(record, names)
    if mean is not None:
        cells.append(("average", f"{100 * mean:.2f}"))
    reference = average(all_layers, names) if all_layers else None
    if mean is not None and reference:
        cells.append(("of all layers", f"{100 * mean / reference:.2f}"))
    width = max(len(name) for name, _ in cells)
    layers = record["layers"]
    told = f"layers {', '.join(map(str, layers))}" if layers else "untouched"
    lines = [f"{record['identity']['model']['name']}, {told}  (percent)"]
    lines += [f"  {name:<{width}}  {value}" for name, value in cells]
    return "\n".join(lines)
