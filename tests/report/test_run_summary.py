"""What the terminal shows of one run."""

from __future__ import annotations

from typing import Any

from vrx.report.run_summary import format_run_summary, mean_score
from vrx.runs.record import ModelFacts, Record, ScoreEntry


def record(*layers: int, **scores: dict[str, Any]) -> Record:
    entries = {name: ScoreEntry(num_samples=10, **{"stderr": 0.0, **entry}) for name, entry in scores.items()}
    return Record("0", {}, ModelFacts("tiny", 4), list(layers), entries)


def test_scores_average_and_share_of_all_layers_are_in_percent():
    all_layers = record(0, 1, 2, 3, gqa={"value": 0.8, "stderr": 0.1}, mmlu={"value": 0.8, "stderr": 0.1})
    sparse = record(0, 2, gqa={"value": 0.5, "stderr": 0.025}, mmlu={"value": 0.7, "stderr": 0.1})
    assert format_run_summary(sparse, all_layers).splitlines() == [
        "tiny, layers 0, 2  (percent)",
        "  gqa            50.00 ±2.50",
        "  mmlu           70.00 ±10.00",
        "  average        60.00 ±5.15",
        "  of all layers  75.00",
    ]


def test_chance_levels_stand_beside_the_scores():
    run = record(0, gqa={"value": 0.5, "chance": 0.2}, mmlu={"value": 0.7, "chance": 0.25})
    lines = format_run_summary(run, None).splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["gqa", "50.00", "±0.00", "chance", "20.00"],
        ["mmlu", "70.00", "±0.00", "chance", "25.00"],
        ["average", "60.00", "±0.00", "chance", "22.50"],
    ]
    partly = format_run_summary(record(0, gqa={"value": 0.5, "chance": 0.2}, mmlu={"value": 0.7}), None)
    assert "chance" not in partly.splitlines()[-1], "an average of some levels is no level of the average"


def test_log_likelihoods_show_their_perplexity_and_are_in_no_average():
    perplexity = {"value": 0.1, "stderr": 0.1, "perplexity": {"token": 12.34, "word": 20.0}}
    lines = format_run_summary(record(gqa={"value": 0.5, "stderr": 0.0}, wikitext=perplexity), None).splitlines()
    assert lines[0] == "tiny, untouched  (percent)"
    assert lines[-2:] == ["  average   50.00 ±0.00", "  wikitext  perplexity 12.34 by token, 20 by word"]


def test_a_mean_needs_every_benchmark():
    assert mean_score(record(gqa={"value": 0.5}), ["gqa", "mmlu"]) is None
    assert mean_score(record(), []) is None
