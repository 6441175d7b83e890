"""Short names stand for functions of vrx, and for nothing else."""

from __future__ import annotations

import re

import pytest
from support.config_runs import given_keys

from vrx.config.errors import UserError
from vrx.config.resolve import known_names, resolve_name


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("metric", "gqa_match", "vrx.metrics.per_answer.gqa_match"),
        ("metric", "gqa_match_qwen", "vrx.metrics.other_toolkits.gqa_match_qwen"),
        ("family", "short_answer", "vrx.evaluation.families.short_answer"),
        ("reader", "gqa", "vrx.evaluation.readers.gqa.rows"),
        ("rule", "most_important", "vrx.selectors.rules.most_important"),
        ("world", "tiny", "vrx.tiny.data.build"),
        ("job", "finetune", "vrx.jobs.finetune.driver.finetune"),
    ],
)
def test_a_short_name_stands_for_one_function(kind: str, name: str, path: str):
    function = resolve_name(kind, name)
    assert f"{function.__module__}.{function.__name__}" == path
    assert name in known_names(kind)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "eval",
        "",
        "_options",
        "vrx.metrics.gqa_match",
        "per_answer",  # a module of the package
        "mean",  # an aggregate, no metric
        "Answer",
        "../gqa",
        "nothing",
    ],
)
@pytest.mark.parametrize("kind", ["metric", "family", "reader", "rule", "world", "job"])
def test_no_other_name_is_accepted(kind: str, name: str):
    with pytest.raises(UserError, match=f"^the.key={re.escape(name)}: (not a short name|no such {kind}); .*valid: "):
        resolve_name(kind, name, key="the.key")


KEYS = ["selector.rule", "world.name", "benchmark.tiny_gqa.family", "benchmark.tiny_gqa.metric"]


@pytest.mark.parametrize("key", KEYS)
def test_a_run_that_names_foreign_code_is_refused_by_key(key: str):
    with pytest.raises(UserError, match=f"^{key}=os.system: not a short name; valid: "):
        given_keys(f"{key}=os.system")
