"""Metric names of old records are migrated."""

from __future__ import annotations

from vrx.runs.metric_names import migrate_metric_names

OLD = ["anls", "score_per_type", "score_per_type_harmonic", "official_per_type_and_answer"]
OLD += ["official_per_type_and_answer_harmonic", "score_every_row", "first_first_pass"]
NEW = ["anls", "score_mean_per_type", "score_harmonic_mean_per_type", "official_normalized_mean_per_type"]
NEW += ["official_normalized_harmonic_mean_per_type", "score_all_rotations", "first_first_rotation"]


def test_old_metric_names_become_new_ones_and_keep_their_values():
    entry = {"value": 0.5, "metrics": {name: number / 10 for number, name in enumerate(OLD)}}
    migrated = migrate_metric_names(entry)
    assert migrated == {"value": 0.5, "metrics": {name: number / 10 for number, name in enumerate(NEW)}}


def test_an_entry_without_metrics_is_returned_as_it_is():
    for entry in ({"value": 0.5}, {"metrics": None}, "no entry"):
        assert migrate_metric_names(entry) == entry
