"""A run is what is trained: its identity, the directory named by it, files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_runs import DATA, changed, small_run

from vrx.config.schema import (
    RunConfig,
    SelectorConfig,
)
from vrx.evaluation.evaluate_run import write_record
from vrx.runs import files, lookup, provenance
from vrx.runs.layer_selection import select_layers
from vrx.runs.neighbours import all_layers_record
from vrx.runs.record import LayerScores, Record, ScoreEntry, read_record
from vrx.runs.train_summary import TrainSummary
from vrx.runs.typed_json import to_json


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    return small_run(tmp_path)


# ---- files


@settings(deadline=None)
@given(value=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(allow_nan=False))))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, Any]):
    turned = dict(reversed(value.items()))
    assert files.digest(turned) == files.digest(value)
    assert files.digest({**value, "one more": 1}) != files.digest(value)


def test_a_file_is_written_whole_and_alone(tmp_path: Path):
    path = tmp_path / "new" / "folder" / "a.txt"
    files.write_atomic(path, "one ü\n")
    files.write_atomic(path, "two\n")
    assert path.read_text(encoding="utf-8") == "two\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    files.write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_atomic(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@settings(deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda part: st.lists(part) | st.dictionaries(st.text("aü"), part),
    )
)
def test_json_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: Any):
    path = tmp_path_factory.getbasetemp() / "value.json"
    files.write_json(path, value)
    assert files.read_json(path) == value


@pytest.mark.parametrize(("content", "why"), [(b'{"a": 1,\n}', "line 2"), (b"", "line 1"), (b'"\xff"', "not UTF-8")])
def test_a_broken_file_is_refused_by_name(tmp_path: Path, content: bytes, why: str):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json: .*{why}"):
        files.read_json(tmp_path / "a.json")


def test_a_files_digest_is_its_sha256(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert files.file_digest(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


# ---- records

Keep = Callable[..., tuple[Path, Record]]
SCORES = {"gqa": ScoreEntry(0.5, 4, 0.25)}


@pytest.fixture
def keep(run: RunConfig) -> Keep:
    """Record a run with some keys changed; gives its directory and its record."""

    def record(**changes: Any) -> tuple[Path, Record]:
        other = run
        for key, value in changes.items():
            other = changed(other, key.replace("__", "."), value)
        layers = list(select_layers(other))
        folder, identity = lookup.locate_finetune(other, layers, DATA)
        return folder, write_record(folder, other.model, identity, layers, SCORES, train=TrainSummary(steps=1))

    return record


ALL = SelectorConfig(name="all", rule="all")


def test_a_record_comes_back_as_it_was_written(keep: Keep):
    folder, record = keep()
    assert read_record(folder / "record.json") == record
    assert folder.name.endswith(f"_{record.run_id}")


def test_a_record_keeps_what_earlier_commands_measured(keep: Keep, run: RunConfig):
    folder, record = keep()
    more = {"mmlu": ScoreEntry(0.25, 4, 0.25)}
    record = write_record(folder, run.model, record.identity, record.layers, more)
    assert set(record.scores) == {"gqa", "mmlu"} and record.train == TrainSummary(steps=1)
    again = write_record(folder, run.model, record.identity, record.layers, {"gqa": more["mmlu"]})
    assert again.scores["gqa"].value == 0.25


def test_a_record_keeps_the_scores_that_chose_its_layers(run: RunConfig, tmp_path: Path):
    first, later = (LayerScores("block_influence", [0.5, None, value], "0" * 16) for value in (1.0, 2.0))
    for scores, kept in ((None, None), (first, first), (later, first), (None, first)):
        write_record(tmp_path, run.model, {"model": {}}, [2], {}, layer_scores=scores)
        assert read_record(tmp_path / "record.json").layer_scores == kept


def test_the_all_layers_run_is_found_by_its_identity(keep: Keep):
    folder, record = keep()
    assert all_layers_record(folder, record) is None
    keep(selector=ALL, seed=1)
    keep(selector=ALL, train__lr=1e-3)
    keep(selector=ALL, data_fraction__fraction=0.5)
    keep(layer_count__k=16)
    assert all_layers_record(folder, record) is None
    _, whole = keep(selector=ALL)
    assert all_layers_record(folder, record) == whole


def test_the_all_layers_run_is_also_found_in_a_folder_of_results(keep: Keep, tmp_path: Path):
    folder, whole = keep(selector=ALL)
    results = tmp_path / "results"
    shutil.move(folder, results / folder.relative_to(folder.parents[2]))
    folder, record = keep()
    assert all_layers_record(folder, record) is None
    assert all_layers_record(folder, record, [results]) == whole


def test_the_all_layers_run_is_its_own_reference(keep: Keep):
    folder, whole = keep(selector=ALL)
    assert all_layers_record(folder, whole) == whole


def test_provenance_is_plain_json_with_versions_and_a_commit_where_there_is_one():
    told = to_json(provenance.current_provenance())
    assert json.loads(json.dumps(told)) == told
    assert {"torch", "transformers", "numpy"} <= set(told["versions"])
    assert "git_commit" not in told or len(told["git_commit"]) == 40
