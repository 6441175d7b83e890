"""Every number of the configuration has bounds, and none outside of them is taken."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_args

import pytest

from vrx.config import job_options
from vrx.config.bounds import BOUNDS, check_bounds, number, schema_fields
from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig, RunConfig, WorldConfig
from vrx.config.switches import refuse_number

JOBS = {"score": "Score", "revert": "Revert", "prune": "Prune", "check": "Check", "bench": "Bench", "report": "Report"}
JOBS |= {"score_answers": "ScoreAnswers", "export": "Export", "ask": "Ask", "compare": "Compare", "demo": "Demo"}
TEXTS = ["data_root", "image", "question"]  # optional, and no sections


def whole_config() -> RunConfig:
    """A configuration with every part, also those that are null in most runs."""
    jobs: dict[str, Any] = {job: getattr(job_options, f"{name}Config")() for job, name in JOBS.items()}
    return RunConfig(world=WorldConfig(), benchmark={"any": BenchmarkConfig()}, **jobs)


def has_number(hint: Any) -> bool:
    return hint in (int, float) or any(map(has_number, get_args(hint)))


def unbounded_keys(schema: Any) -> list[str]:
    """The keys of numbers whose fields declare no bounds, in a dataclass and all that its types name."""
    fields = schema_fields(schema)
    return [key for key, field, hint in fields if BOUNDS not in field.metadata and has_number(hint)]


def test_every_number_has_bounds():
    config = whole_config()
    parts = [field.name for field in dataclasses.fields(config) if getattr(config, field.name) is None]
    assert parts == TEXTS  # every optional section is there
    assert unbounded_keys(RunConfig) == []


NO_TEXTS = {
    "score.benchmarks": [["a"]],
    "lora.target_modules": [None],
    "compare.options": [{"a": "b"}],
    "benchmark.any.extra_metrics": {"a": ["b"]},
    "instructions.columns": {"a": None},
}


@pytest.mark.parametrize("key", NO_TEXTS)
def test_a_list_of_texts_holds_nothing_else(key: str):
    config = whole_config()
    *parents, name = key.split(".")
    part: Any = config
    for parent in parents:
        part = part[parent] if isinstance(part, dict) else getattr(part, parent)
    setattr(part, name, ["a"] if isinstance(NO_TEXTS[key], list) else {"a": "b"})
    check_bounds(config)
    setattr(part, name, NO_TEXTS[key])
    with pytest.raises(UserError, match=rf"^{re.escape(key)}=.*: valid are texts in it$"):
        check_bounds(config)


@dataclasses.dataclass
class Part:
    bad: list[int] | None = None


@dataclasses.dataclass
class Unbounded:
    good: int = number(1, 0, 2)
    bad: float | None = None
    text: str = ""
    section: Part | None = None  # null in most runs
    named: dict[str, Part] = dataclasses.field(default_factory=dict)  # empty in most runs


def test_a_number_without_bounds_is_found():
    assert unbounded_keys(Unbounded) == ["bad", "section.bad", "named.*.bad"]


@pytest.mark.parametrize(
    "key", ["train.connector", "export.adapter", "benchmark.tiny_gqa.mean_per_type", "+prune.save"]
)
def test_a_number_is_neither_true_nor_false(key: str):
    for value in ("2", "-1", "0.5", "1e3"):
        with pytest.raises(UserError, match=rf"^{re.escape(key)}={value}: valid are true and false$"):
            refuse_number(f"{key}={value}")
    for fine in (f"{key}=true", f"{key}=1", "train.lr=2", "nowhere=2", "train.connector.x=2", "seed=7"):
        refuse_number(fine)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, -(10**400)])
@pytest.mark.parametrize("key", ["train.lr", "train.warmup_ratio", "lora.dropout", "eval.limit", "seed", "world.seed"])
def test_what_is_no_number_is_refused_under_its_own_key(key: str, value: float):
    config = whole_config()
    part = config
    *parents, name = key.split(".")
    for parent in parents:
        part = getattr(part, parent)
    setattr(part, name, value)
    with pytest.raises(UserError, match=rf"^{key}=.*: must be "):
        check_bounds(config)


@pytest.mark.parametrize(
    ("blocks", "is_valid"),
    [([[0, 3], [4, 7]], True), ([1], False), ([[[1]]], False), ([None], False), ([[-1, 2]], False)],
)
def test_lists_have_the_declared_form(blocks: Any, is_valid: bool):
    config = RunConfig(revert=job_options.RevertConfig(blocks=blocks))
    if is_valid:
        check_bounds(config)
    else:
        with pytest.raises(UserError, match=r"^revert\.blocks="):
            check_bounds(config)
