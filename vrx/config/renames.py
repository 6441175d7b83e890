"""Configuration keys and values that were renamed: old name to new name.

The command line refuses an old key with its new name; `vrx.config.migrations` applies the table to frozen runs.
"""

from __future__ import annotations

# Dotted keys; `*` stands for any one part, such as the name of a benchmark.
KEYS = {
    "benchmark.*.also": "benchmark.*.extra_metrics",
    "benchmark.*.ask": "benchmark.*.output_type",
    "benchmark.*.per_type": "benchmark.*.mean_per_type",
    "benchmark.*.per_answer": "benchmark.*.normalized_mean_per_type",
    "check.share_of_peak": "check.expected_mfu",
    "score.untouched": "score.base_model",
    "engine.skip_tower": "engine.skip_vision_tower",
}

# Values of a key, by the key's new name.
VALUES = {"benchmark.*.output_type": {"likelihood": "loglikelihood"}}


def renamed_key(key: str) -> tuple[str, str] | None:
    """The renamed key that a dotted key is or lies below, as it was and as it is called now; None for any other key.

    `benchmark.gqa.also.anls` gives `("benchmark.gqa.also", "benchmark.gqa.extra_metrics")`.
    """
    parts = key.split(".")
    for old, new in KEYS.items():
        depth = old.count(".") + 1
        if _matches(parts[:depth], old):
            new_parts = [part if name == "*" else name for name, part in zip(new.split("."), parts, strict=False)]
            return ".".join(parts[:depth]), ".".join(new_parts)
    return None


def renamed_value(key: str, value: str) -> str | None:
    """What a value of this key is called now; None where it was not renamed."""
    values = [values for pattern, values in VALUES.items() if _matches(key.split("."), pattern)]
    return values[0].get(value) if values else None


def rename_error(override: str) -> str | None:
    """One line for an override that uses an old key or value, None for any other override."""
    key, _, value = override.lstrip("+~").partition("=")
    if names := renamed_key(key):
        return f"{names[0]}: renamed to {names[1]}"
    if name := renamed_value(key, value):
        return f"{override}: renamed to {name}"
    return None


def _matches(parts: list[str], pattern: str) -> bool:
    names = pattern.split(".")
    return len(parts) == len(names) and all(name in ("*", part) for name, part in zip(names, parts, strict=True))
