"""Strips of layers: drawn from numbers, read aloud in words, coloured by the importance of the same weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.report_runs import BUNNY, SPARSE, write_run

from vrx.report.page.layer_strips import HEIGHT, LOW, Importance, find_importance, strip
from vrx.runs.files import write_json


def heights(svg: str) -> dict[int, list[int]]:
    """The layers of each height of a cell."""
    found: dict[int, list[int]] = {}
    for x, height in re.findall(r"M(\d+) \d+h4v(\d+)", svg):
        found.setdefault(int(height), []).append(int(x) // 5)
    return {height: sorted(layers) for height, layers in found.items()}


def test_tuned_layers_are_tall_and_named():
    drawn = strip((0, 1, 2, 7), 8)
    assert heights(drawn) == {HEIGHT: [0, 1, 2, 7], LOW: [3, 4, 5, 6]}
    assert 'aria-label="0 to 2, 7 of 8 tuned"' in drawn


def test_pruned_and_reverted_layers_show():
    drawn = strip((0, 1), 4, pruned=(3,), reverted=(1,))
    assert heights(drawn)[2] == [3] and 'class="r"' in drawn and "3 pruned; 1 reverted" in drawn


def test_the_shade_of_a_layer_is_its_rank_by_importance():
    importance = Importance("block_influence", "untouched", (0.3, 0.1, 0.2))
    assert importance.shades == [4, 0, 2]
    assert re.findall(r'class="(\w+)"', strip((0,), 3, importance))[1:] == ["t4", "u0", "u2"]
    assert 'class="tn"' in strip((0,), 4, importance)  # scores of another depth colour nothing


def test_a_model_of_any_depth_has_a_strip_or_none():
    assert strip((), 0) == "" and strip((), 10_000_000) == ""


def test_layers_of_the_rarer_kind_have_a_notch_and_all_kinds_are_read_aloud():
    drawn = strip((1, 4, 5), 8, kinds={1: "linear", 4: "full", 5: "linear"})
    assert re.findall(r'class="k" d="M(\d+) ', drawn) == ["21"]  # inside the cell of layer 4
    assert "; full: 4; linear: 1, 5" in drawn
    assert 'class="k"' not in strip((1,), 8, kinds={1: "linear"})


@pytest.mark.parametrize(("weights", "scores", "found"), [
    ({"backbone": BUNNY}, [0.1] * 32, True),
    ({"backbone": "other"}, [0.1] * 32, False),
    ({"backbone": BUNNY}, ["a"] * 32, False),
    (None, [0.1] * 32, False),
])  # fmt: skip
def test_importance_is_that_of_the_same_weights(tmp_path: Path, weights: object, scores: list, found: bool):
    run = write_run(tmp_path, SPARSE, columns=("gqa",))
    content = {"version": 1, "scores": {"block_influence": scores}, "scored": None}
    model = {"model": {}, "weights": weights} if weights else None
    write_json(tmp_path / "score" / BUNNY / "all-32_seed0_1a2b" / "scores.json", content | {"model": model})
    importance = find_importance([run], [tmp_path])
    assert (BUNNY in importance) == found
    if found:
        assert importance[BUNNY].source == "all-32_seed0" and importance[BUNNY].formula == "block_influence"
