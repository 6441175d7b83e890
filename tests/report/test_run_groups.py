"""Groups of runs that may be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.altered_runs import altered_run

from vrx.report.collect import Run
from vrx.report.run_groups import describe_differences, group_by_identity, group_by_setting
from vrx.runs.record import ModelFacts, Record


def run(*, model: str = "m", seed: int = 0, fraction: float = 1.0, **train: Any) -> Run:
    identity = {"weights": {}, "layers": [0], "data": {"fraction": fraction}, "train": train, "seed": seed}
    return Run(Path(f"{seed}"), Record("0", identity, ModelFacts(model, 4), [0], {}))


def test_layers_data_fraction_and_seed_are_no_part_of_a_setting():
    runs = [run(lr=1), run(lr=1, seed=1), run(lr=1, fraction=0.5), run(lr=2), run(model="other", lr=1)]
    assert group_by_setting(runs, "m") == [runs[:3], runs[3:4]]


def test_differences_name_only_what_differs_and_leave_out_what_is_missing():
    groups = [[run(lr=1, steps=5)], [run(lr=2, steps=5, optimizer="adamw_8bit")]]
    assert describe_differences(groups) == ["train.lr=1", "train.lr=2, train.optimizer=adamw_8bit"]
    assert describe_differences(groups[:1]) == [""]


def test_parts_of_a_model_are_named_by_their_folders_and_by_digests_only_where_these_are_equal():
    def with_tower(folder: str, sha256: str) -> Run:
        identity = {"weights": {"vision_tower": sha256}, "data": {}}
        parts = {"vision_tower": folder, "projector": f"outputs/{sha256}/projector"}
        return Run(Path(sha256), Record("0", identity, ModelFacts("m", 4, parts), [0], {}))

    random = with_tower("small/vision_tower_random", "9")
    groups = [[with_tower("small/vision_tower", "5")], [random]]
    assert describe_differences(groups) == ["model.vision_tower=vision_tower", "model.vision_tower=vision_tower_random"]
    groups = [[with_tower("old/vision_tower_random", "5")], [random]]
    assert describe_differences(groups) == ["weights.vision_tower=5", "weights.vision_tower=9"]


def test_altered_runs_are_grouped_by_model_and_what_was_tuned():
    def pruned(model: str, layers: tuple[int, ...], number: int) -> Run:
        return altered_run(Path(), layers, {}, model=model, pruned=tuple(range(number)), chosen_by=("angle",))

    runs = [pruned("a", (0, 1), 0), pruned("a", (0, 1), 2), pruned("a", (0,), 2), pruned("b", (0, 1), 0)]
    assert group_by_identity(runs, except_for=("pruned",)) == [runs[:2], runs[2:3], runs[3:]]
