"""A run is what is trained: its identity, the directory named by it, files that are there whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrx.config.schema import (
    BenchmarkConfig,
    EngineConfig,
    JobConfig,
    LayerCountConfig,
    LoraConfig,
    ModelConfig,
    RunConfig,
    SelectorConfig,
    TrainConfig,
)
from vrx.evaluation.evaluate_run import write_record
from vrx.runs import files, lookup, provenance
from vrx.runs.identity import base_identity, weights_fingerprint
from vrx.runs.layer_selection import select_layers
from vrx.runs.record import Record, ScoreEntry, all_layers_record, read_record
from vrx.runs.train_summary import TrainSummary
from vrx.runs.typed_json import to_json

DATA = "d" * 64
PARTS = ("backbone", "vision_tower", "projector")


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    """Eight sparse layers of a model of 32 whose weights are three small folders."""
    for part in PARTS:
        (tmp_path / part).mkdir()
        (tmp_path / part / "model.safetensors").write_bytes(part.encode())
    folders = {part: str(tmp_path / part) for part in PARTS}
    made = RunConfig(
        job=JobConfig(name="finetune"),
        model=ModelConfig(
            name="m", num_layers=32, template="vicuna_v1", image_token="<0x00>", num_image_tokens=16, **folders
        ),
        selector=SelectorConfig(name="sparse_uniform", rule="sparse_uniform"),
        layer_count=LayerCountConfig(k=8),
        recipe="paper",
    )
    made.runtime.output_root = str(tmp_path / "outputs")
    return made


def changed(run: RunConfig, key: str, value: Any) -> RunConfig:
    """The run with one key, dots and all, set to another value."""
    part, _, name = key.partition(".")
    if not name:
        return dataclasses.replace(run, **{part: value})
    return dataclasses.replace(run, **{part: dataclasses.replace(getattr(run, part), **{name: value})})


def other(value: Any) -> Any:
    """Another value of the same type."""
    return {bool: lambda: not value, str: lambda: value + "x", type(None): lambda: 3}.get(
        type(value), lambda: value + 1
    )()


# ---- identity

TRAINED = [
    f"{part}.{field.name}"
    for part, schema in (("lora", LoraConfig), ("train", TrainConfig), ("engine", EngineConfig))
    for field in dataclasses.fields(schema)
]


@pytest.mark.parametrize("key", [*TRAINED, "seed"])
def test_how_it_is_trained_is_part_of_a_run(run: RunConfig, key: str):
    part, _, name = key.partition(".")
    value = getattr(getattr(run, part), name) if name else run.seed
    assert lookup.run_identity(changed(run, key, other(value)), DATA) != lookup.run_identity(run, DATA)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_count.k", 4),
        ("selector.offset", 1),
        ("selector.layers", [1, 2, 3]),
        ("data_fraction.fraction", 0.1),
        ("instructions.on_bad_image", "skip"),
        ("model.max_length", 512),
        ("model.backbone", "another/backbone"),
    ],
)
def test_what_is_trained_is_part_of_a_run(run: RunConfig, key: str, value: Any):
    assert lookup.run_identity(changed(run, key, value), DATA) != lookup.run_identity(run, DATA)


def test_the_content_of_the_data_is_part_of_a_run(run: RunConfig):
    assert lookup.run_identity(run, "e" * 64) != lookup.run_identity(run, DATA)


@pytest.mark.parametrize("part", PARTS)
def test_the_content_of_the_weights_is_part_of_a_run(run: RunConfig, part: str):
    before = lookup.run_identity(run, DATA)
    (Path(getattr(run.model, part)) / "README.md").write_text("words are no weights")
    assert lookup.run_identity(run, DATA) == before
    (Path(getattr(run.model, part)) / "model.safetensors").write_bytes(b"others")
    assert lookup.run_identity(run, DATA) != before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("runtime.num_gpus", 8),
        ("runtime.cpu_processes", 2),
        ("runtime.output_root", "elsewhere"),
        ("runtime.checkpoint_every", 1),
        (
            "benchmark",
            {"gqa": BenchmarkConfig(family="short_answer", metric="gqa_match")},
        ),
        ("eval.batch_size", 1),
        ("eval.limit", 5),
        ("wandb.mode", "disabled"),
        ("wandb.tags", ["a"]),
        ("sweep.name", "table2"),
        ("instructions.path", "moved.json"),
        ("instructions.image_folder", "moved"),
        ("recipe", "the same numbers by another name"),
        ("selector.name", "mine"),
        ("selector.layers", [30, 26, 22, 18, 12, 8, 4, 0]),
    ],
)
def test_where_it_runs_what_is_measured_and_what_things_are_called_is_no_part_of_a_run(
    run: RunConfig, key: str, value: Any
):
    assert lookup.run_identity(changed(run, key, value), DATA) == lookup.run_identity(run, DATA)


def test_two_selectors_of_the_same_layers_are_one_run(run: RunConfig):
    top = SelectorConfig(name="consecutive_top", rule="consecutive", start="top")
    last = SelectorConfig(name="last", rule="fixed", layers=list(range(24, 32)))
    one, same = (lookup.run_identity(dataclasses.replace(run, selector=selector), DATA) for selector in (top, last))
    assert one == same


def test_an_identity_is_plain_json(run: RunConfig):
    identity = lookup.run_identity(run, DATA)
    assert json.loads(json.dumps(identity)) == identity
    assert identity["layers"] == list(select_layers(run))


def test_an_untouched_model_is_told_by_model_and_weights_alone(run: RunConfig):
    assert base_identity(changed(run, "seed", 5)) == base_identity(run)
    assert base_identity(run).items() <= lookup.run_identity(run, DATA).items()


@settings(deadline=None)
@given(value=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(allow_nan=False))))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, Any]):
    turned = dict(reversed(value.items()))
    assert files.digest(turned) == files.digest(value)
    assert files.digest({**value, "one more": 1}) != files.digest(value)


def test_weights_on_the_hub_are_told_by_their_id(run: RunConfig):
    config = dataclasses.replace(run.model, backbone="lmsys/vicuna-7b-v1.5")
    assert weights_fingerprint(config)["backbone"] == "lmsys/vicuna-7b-v1.5"


def test_a_folder_of_weights_may_move(run: RunConfig, tmp_path: Path):
    (tmp_path / "backbone").rename(tmp_path / "moved")
    moved = dataclasses.replace(run.model, backbone=str(tmp_path / "moved"))
    assert weights_fingerprint(moved)["vision_tower"] == weights_fingerprint(run.model)["vision_tower"]
    assert len(weights_fingerprint(moved)["backbone"]) == 16


# ---- directories


def test_a_run_lies_under_its_job_and_model_by_label_and_hash(run: RunConfig):
    identity = lookup.run_identity(run, DATA)
    folder = lookup.run_directory(run, identity, label=lookup.run_label(run))
    short = files.digest(identity)[:8]
    assert folder == Path(run.runtime.output_root) / "finetune" / "m" / f"sparse_uniform-8_100pct_seed0_{short}"


def test_a_run_is_found_whatever_label_it_was_given(run: RunConfig):
    identity = lookup.run_identity(run, DATA)
    folder = lookup.run_directory(run, identity, label="earlier")
    assert not folder.exists()  # asking makes nothing
    folder.mkdir(parents=True)
    assert lookup.run_directory(run, identity, label="later") == folder
    assert lookup.run_directory(run, {**identity, "seed": 1}, label="later") != folder


@pytest.mark.parametrize("name", ["org/model", "../up", "a b"])
def test_a_model_of_any_name_stays_below_its_job(run: RunConfig, name: str):
    folder = lookup.run_directory(changed(run, "model.name", name), {}, label="x")
    assert folder.parent.parent == Path(run.runtime.output_root) / "finetune"


def test_a_directory_is_named_whole_wherever_the_command_is_run(run: RunConfig, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = lookup.run_directory(changed(run, "runtime.output_root", "outputs"), {}, label="x")
    assert folder.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "label"),
    [
        ("seed", 3, "sparse_uniform-8_100pct_seed3"),
        ("data_fraction.fraction", 0.25, "sparse_uniform-8_25pct_seed0"),
        ("data_fraction.fraction", 0.005, "sparse_uniform-8_0.5pct_seed0"),
        ("layer_count.k", 2, "sparse_uniform-2_100pct_seed0"),
        ("selector.layers", [5, 6], "layers-2_100pct_seed0"),
        (
            "selector",
            SelectorConfig(name="mine", rule="fixed", layers=list(range(8))),
            "mine-8_100pct_seed0",
        ),
    ],
)
def test_a_label_says_what_one_looks_for(run: RunConfig, key: str, value: Any, label: str):
    assert lookup.run_label(changed(run, key, value)) == label


# ---- files


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
        told = run
        for key, value in changes.items():
            told = changed(told, key.replace("__", "."), value)
        identity = lookup.run_identity(told, DATA)
        folder = lookup.run_directory(told, identity, label=lookup.run_label(told))
        return folder, write_record(
            folder, told.model, identity, list(select_layers(told)), SCORES, train=TrainSummary(steps=1)
        )

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


def test_a_field_that_is_null_is_no_part_of_what_a_run_is(run: RunConfig):
    assert "max_steps" not in lookup.run_identity(changed(run, "train.max_steps", None), DATA)["train"]
    assert lookup.run_identity(changed(run, "train.max_steps", 3), DATA)["train"]["max_steps"] == 3


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


def test_the_all_layers_run_is_its_own_reference(keep: Keep):
    folder, whole = keep(selector=ALL)
    assert all_layers_record(folder, whole) == whole


def test_provenance_is_plain_json_with_versions_and_a_commit_where_there_is_one():
    told = to_json(provenance.current_provenance())
    assert json.loads(json.dumps(told)) == told
    assert {"torch", "transformers", "numpy"} <= set(told["versions"])
    assert "git_commit" not in told or len(told["git_commit"]) == 40
