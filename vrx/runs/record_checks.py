"""What a record must hold so that nothing that reads it later, such as a report of many runs, is stopped by it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vrx.config.bounds import MAX_LAYERS
from vrx.config.paths import as_file_name
from vrx.runs.typed_json import InvalidField

if TYPE_CHECKING:
    from vrx.runs.record import Record

MAX_NAME = 200  # characters of a name: of a model, selector, benchmark
MAX_DEPTH = 32  # of nested lists and objects
MAX_INT = 2**63 - 1
MAX_LISTED = 60  # characters of a text that is shown in an error


def check_values(value: Any, key: str = "", depth: int = 0) -> None:
    """Refuse what is valid JSON but no value of ours: `InvalidField` names the dotted key.

    These are texts with a lone surrogate or NUL, which no file can hold, integers of more than 64 bits, and nesting
    that no reader of ours follows.
    """
    name = key or "it"
    if depth > MAX_DEPTH:
        raise InvalidField(f"{name[:MAX_LISTED]} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str) and not is_text(value):
        raise InvalidField(f"{name} has characters that no text has: {value[:MAX_LISTED]!a}")
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise InvalidField(f"{name} has more than 64 bits")
    if isinstance(value, dict):
        for part, content in value.items():
            if not is_text(part):
                raise InvalidField(f"{name} has a key {part[:MAX_LISTED]!a}")
            check_values(content, f"{key}.{part}" if key else part, depth + 1)
    if isinstance(value, list):
        for number, content in enumerate(value):
            check_values(content, f"{key}[{number}]", depth + 1)


def is_text(value: str) -> bool:
    """Whether a text can be written to a file: it has no NUL and no lone surrogate."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value)


def check_record(record: Record) -> None:
    """Refuse a record with values out of range: `InvalidField` names the dotted key."""
    checks = {**_model(record), **_identity(record), **_scores(record), **_training(record)}
    invalid = [key for key, valid in checks.items() if not valid]
    if invalid:
        raise InvalidField(f"{invalid[0]} is out of range")


def _model(record: Record) -> dict[str, bool]:
    depth, layers = record.model.num_layers, record.layers
    if not 0 <= depth <= MAX_LAYERS:  # first, as what follows counts them
        return {"model.num_layers": False}
    names = {"model.name": record.model.name, "run_id": record.run_id}
    names |= {f"selectors[{number}]": name for number, name in enumerate(record.selectors)}
    names |= {f"scores.{name[:MAX_LISTED]}": name for name in record.scores}
    checks = {key: _is_name(name) for key, name in names.items()}
    checks["layers"] = len(set(layers)) == len(layers) and all(layer in range(depth) for layer in layers)
    files = {key: as_file_name(name) == name for key, name in names.items() if key.startswith("scores.")}
    checks |= files  # answers/<benchmark>.jsonl
    checks["layers"] &= len(layers) > 0 or not record.is_finetune
    return checks


def _identity(record: Record) -> dict[str, bool]:
    """The parts of the identity that tables and figures group by; the rest is only compared."""
    identity, all_layers = record.identity, range(min(max(record.model.num_layers, 0), MAX_LAYERS))
    checks = {"identity.seed": identity.get("seed") is None or _is_int(identity["seed"])}
    if "train" in identity:
        checks["identity.train"] = isinstance(identity["train"], dict)
        checks["identity.data.fraction"] = 0 < identity["data"]["fraction"] <= 1
    checks["identity.weights"] = isinstance(identity.get("weights", {}), dict)
    for key in ("reverted", "pruned"):
        altered = identity.get(key, [])
        checks[f"identity.{key}"] = isinstance(altered, list) and all(
            _is_int(layer) and layer in all_layers for layer in altered
        )
    return checks


def _scores(record: Record) -> dict[str, bool]:
    checks = {}
    for name, entry in record.scores.items():
        key = f"scores.{name}"
        checks[key] = 0 <= entry.value <= 1 and 0 <= entry.stderr <= 1 and entry.num_samples >= 0
        checks[f"{key}.chance"] = entry.chance is None or 0 <= entry.chance <= 1
        checks[f"{key}.perplexity"] = all(value is None or value >= 0 for value in (entry.perplexity or {}).values())
    return checks


def _training(record: Record) -> dict[str, bool]:
    """Costs are finite and not negative; a loss may be anything, as a training may diverge."""
    if record.train is None:
        return {}
    costs = {key: value for key, value in vars(record.train).items() if key != "final_loss"}
    return {
        f"train.{key}": 0 <= value < math.inf
        for key, value in costs.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable()


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
