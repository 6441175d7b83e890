"""Data sets as folders, columns of other names, and mixtures by weight."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from vrx.config.errors import UserError
from vrx.config.instruction_sources import InstructionsConfig, MixedSource, check_sources
from vrx.data import arrow_table
from vrx.data.conversations.conversation_mixture import MixedRows
from vrx.data.conversations.conversation_table import build_mixture, mixture_digest


def pairs(name: str, count: int) -> list[dict[str, Any]]:
    return [{"texts": [{"user": f"{name}{number}", "assistant": "b"}]} for number in range(count)]


def write_parquet(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(records), path)


def questions(config: InstructionsConfig, cache: Path) -> list[str]:
    rows = MixedRows(build_mixture(config, cache, digest=mixture_digest(config, cache)))
    return [rows[number].messages[0]["content"][0]["text"] for number in range(len(rows))]


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """A data set with two subsets in the form of the hub's, one of them in two pieces and with a test split."""
    folder = tmp_path / "data_set"
    write_parquet(folder / "charts" / "train-00000-of-00002.parquet", pairs("a", 3))
    write_parquet(folder / "charts" / "train-00001-of-00002.parquet", pairs("b", 2))
    write_parquet(folder / "charts" / "test-00000-of-00001.parquet", pairs("t", 1))
    write_parquet(folder / "maps" / "train-00000-of-00001.parquet", pairs("m", 1))
    return folder


def test_subset_and_split_name_the_files_of_a_data_set(data_set: Path, tmp_path: Path) -> None:
    config = InstructionsConfig(path=str(data_set), subset="charts")
    assert questions(config, tmp_path / "cache") == ["a0", "a1", "a2", "b0", "b1"]
    config = InstructionsConfig(path=str(data_set), subset="charts", split="test")
    assert questions(config, tmp_path / "cache") == ["t0"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "instructions.subset=null: .* has several; name one of charts, maps"),
        ({"subset": "texts"}, "instructions.subset=texts: no such folder in .*; there are charts, maps"),
        ({"subset": "maps", "split": "val"}, "instructions.split=val: .* has no such split; there are train"),
        (
            {"subset": "maps", "columns": {"texts": "qa"}},
            r"0: qa: no such column \(instructions.columns.texts\)",
        ),
    ],
)
def test_part_that_a_data_set_lacks_is_refused(
    data_set: Path, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        questions(InstructionsConfig(path=str(data_set), **keys), tmp_path / "cache")


def test_unreachable_data_set_names_the_command_that_downloads_it(tmp_path: Path) -> None:
    config = InstructionsConfig(path="nobody/no-data-set", subset="charts")
    with pytest.raises(UserError, match=r"hf download nobody/no-data-set --repo-type dataset --include 'charts/\*"):
        questions(config, tmp_path / "cache")


def test_columns_of_other_names_are_read_by_the_names_given(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{"qa": [{"user": "x", "assistant": "y"}], "number": 4}])
    config = InstructionsConfig(path=str(tmp_path / "a.parquet"), columns={"texts": "qa", "id": "number"})
    assert questions(config, tmp_path / "cache") == ["x"]


def mixture(tmp_path: Path, **weights: float) -> InstructionsConfig:
    mix = {}
    for name, weight in weights.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in pairs(name, 10)), encoding="utf-8")
        mix[name] = MixedSource(path=str(path), weight=weight)
    return InstructionsConfig(mix=mix)


@pytest.mark.parametrize(("weight", "least", "most"), [(1, 1, 1), (2, 2, 2), (0.5, 0, 1), (2.3, 2, 3)])
def test_rows_occur_as_often_as_their_weight_says(tmp_path: Path, weight: float, least: int, most: int) -> None:
    counts = Counter(questions(mixture(tmp_path, a=weight, b=1), tmp_path / "cache"))
    of_a = [counts[f"a{number}"] for number in range(10)]
    assert (min(of_a), max(of_a), sum(of_a)) == (least, most, round(10 * weight))
    assert all(counts[f"b{number}"] == 1 for number in range(10))


def test_digest_depends_on_contents_and_weights_alone(tmp_path: Path) -> None:
    config = mixture(tmp_path, a=0.5, b=2)
    digest = mixture_digest(config, None)
    renamed = {"z": config.mix["b"], "y": config.mix["a"]}
    assert mixture_digest(InstructionsConfig(mix=renamed), None) == digest
    assert questions(InstructionsConfig(mix=renamed), tmp_path / "c1") == questions(config, tmp_path / "c2")
    assert mixture_digest(mixture(tmp_path, a=0.5, b=1), None) != digest
    one = InstructionsConfig(path=str(tmp_path / "a.jsonl"))
    assert mixture_digest(one, None) == mixture_digest(mixture(tmp_path, a=1), None)


def test_data_are_converted_once_and_shared_between_mixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    questions(mixture(tmp_path, a=1, b=1), cache)
    before = {file: file.stat().st_mtime_ns for file in cache.rglob(arrow_table.TABLE)}
    questions(mixture(tmp_path, a=3, b=0.5), cache)
    assert {file: file.stat().st_mtime_ns for file in cache.rglob(arrow_table.TABLE)} == before


@pytest.mark.parametrize(
    ("images", "columns", "message"),
    [
        (["https://x.org/a.png"], {}, r"an address; valid is a path below instructions\.mix\.a\.image_folder$"),
        ([], {"texts": "qa"}, r"qa: no such column \(instructions\.mix\.a\.columns\.texts\)"),
    ],
)
def test_a_refused_record_names_the_keys_of_its_data_set(
    tmp_path: Path, images: list[str], columns: dict[str, str], message: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"images": images, **pairs("a", 1)[0]}]), encoding="utf-8")
    config = InstructionsConfig(mix={"a": MixedSource(path=str(path), columns=columns)})
    with pytest.raises(UserError, match=message):
        questions(config, tmp_path / "cache")


@pytest.mark.parametrize(
    ("config", "has_parts", "message"),
    [
        (InstructionsConfig(mix={"a": MixedSource(path="x")}), True, "instructions.mix=.*: valid with another"),
        (InstructionsConfig(columns={"texts": "qa"}), True, "instructions.columns=.*: valid with another"),
        (InstructionsConfig(path="x", mix={"a": MixedSource(path="x")}), False, "instructions.path=x: valid with"),
        (InstructionsConfig(columns={"turns": "qa"}), False, "instructions.columns.turns: no such column; valid are"),
        (
            InstructionsConfig(mix={"a": MixedSource(columns={"turns": "qa"})}),
            False,
            "instructions.mix.a.columns.turns: no such column",
        ),
    ],
)
def test_sources_that_cannot_be_read_are_refused(config: InstructionsConfig, has_parts: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_sources(config, has_parts=has_parts)
