"""Where a run lies: below its output root, whatever its parts are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.config_runs import given_keys

from vrx.runs.importance_files import scores_file
from vrx.runs.lookup import finetune_label, run_directory

NAMES = ("../../../../ESC", "..", "/abs", "a/b", "x" * 400, "a\0b")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_a_run_out_of_its_folder(tmp_path: Path, name: str):
    run = given_keys()
    run.runtime.output_root, run.selector.name, run.model.name = str(tmp_path), name, name
    directory = run_directory(run, {"model": {}, "weights": {}}, label=finetune_label(run, 8))
    assert directory.parents[2] == tmp_path and ".." not in directory.parts
    directory.mkdir(parents=True)
    assert run_directory(run, {"model": {}, "weights": {}}, label="another") == directory
    assert scores_file(run, "untouched").parents[3] == tmp_path
