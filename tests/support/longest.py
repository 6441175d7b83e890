"""The order in which the files of a suite start: the longest first, so that all processes end together."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LONGEST = (  # half a minute or more in one of the suites, the longest first
    "launch/test_ranks.py",
    "launch/test_slurm.py",
    "jobs/test_finetune.py",
    "jobs/test_current_lvlms.py",
    "jobs/test_interrupted_sweep.py",
    "jobs/test_sweep.py",
    "test_docs.py",
    "jobs/test_pretrain.py",
    "jobs/test_disk.py",
    "jobs/test_faults.py",
    "training/test_fast_path.py",
    "jobs/test_check.py",
    "jobs/test_bench.py",
    "training/test_ranks_of_families.py",
    "evaluation/test_shuffled_images.py",
    "jobs/test_evaluate.py",
    "models/test_sharing.py",
    "data/instructions/test_instruction_dataset.py",
    "models/test_probe.py",
    "jobs/test_results.py",
    "jobs/test_prune.py",
)
PLACES = {TESTS / name: place for place, name in enumerate(LONGEST)}


def longest_first(items: list[pytest.Item]) -> None:
    """Sort the tests of a suite by their files; files that are not named keep their order behind the others."""
    items.sort(key=lambda item: PLACES.get(item.path, len(PLACES)))
