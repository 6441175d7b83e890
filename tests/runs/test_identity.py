"""What is part of a run's identity and what is not, and the directory that is named by it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from support.composing import composed
from support.small_runs import DATA, PARTS, changed, small_run

from vrx.config.frozen import load_frozen
from vrx.config.schema import BenchmarkConfig, EngineConfig, LoraConfig, RunConfig, SelectorConfig, TrainConfig
from vrx.runs import files, identity, lookup
from vrx.runs.content_digest import content_digests, weights_digest, weights_fingerprint
from vrx.runs.identity import base_identity, finetune_identity, legacy_identity, migrate_identity
from vrx.runs.layer_selection import select_layers

TRAINED = [
    f"{part}.{field.name}"
    for part, schema in (("lora", LoraConfig), ("train", TrainConfig), ("engine", EngineConfig))
    for field in dataclasses.fields(schema)
]


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    return small_run(tmp_path)


def run_identity(run: RunConfig) -> identity.Identity:
    return finetune_identity(run, list(select_layers(run)), DATA)


def another(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    return 3 if value is None else value + 1


# ---- settings


@pytest.mark.parametrize("key", [*TRAINED, "seed"])
def test_every_training_setting_is_part_of_the_identity(run: RunConfig, key: str):
    part, _, name = key.partition(".")
    value = getattr(getattr(run, part), name) if name else run.seed
    assert run_identity(changed(run, key, another(value))) != run_identity(run)


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
def test_model_layers_and_data_are_part_of_the_identity(run: RunConfig, key: str, value: Any):
    assert run_identity(changed(run, key, value)) != run_identity(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.name", "another name"),
        ("runtime.num_gpus", 8),
        ("runtime.cpu_processes", 2),
        ("runtime.output_root", "elsewhere"),
        ("runtime.checkpoint_every", 1),
        ("benchmark", {"gqa": BenchmarkConfig(family="short_answer", metric="gqa_match")}),
        ("eval.batch_size", 1),
        ("eval.limit", 5),
        ("wandb.mode", "disabled"),
        ("wandb.tags", ["a"]),
        ("sweep.name", "table2"),
        ("instructions.path", "moved.json"),
        ("instructions.image_folder", "moved"),
        ("recipe", "another name for the same numbers"),
        ("selector.name", "mine"),
        ("selector.layers", [30, 26, 22, 18, 12, 8, 4, 0]),
    ],
)
def test_names_paths_devices_and_benchmarks_are_no_part_of_the_identity(run: RunConfig, key: str, value: Any):
    assert run_identity(changed(run, key, value)) == run_identity(run)


def test_the_digest_of_the_data_is_part_of_the_identity(run: RunConfig):
    assert finetune_identity(run, [0], "e" * 64)["data"]["sha256"] == "e" * 64


def test_two_selectors_of_the_same_layers_have_one_identity(run: RunConfig):
    top = SelectorConfig(name="consecutive_top", rule="consecutive", start="top")
    fixed = SelectorConfig(name="last", rule="fixed", layers=list(range(24, 32)))
    first, second = (run_identity(dataclasses.replace(run, selector=selector)) for selector in (top, fixed))
    assert first == second


def test_a_null_setting_is_left_out(run: RunConfig):
    assert "max_steps" not in run_identity(changed(run, "train.max_steps", None))["train"]
    assert run_identity(changed(run, "train.max_steps", 3))["train"]["max_steps"] == 3


def test_a_setting_that_a_later_version_adds_is_left_out_at_its_default():
    @dataclasses.dataclass
    class LaterLora(LoraConfig):
        use_rslora: bool = False

    assert identity._settings("lora", LaterLora()) == identity._settings("lora", LoraConfig())
    assert identity._settings("lora", LaterLora(use_rslora=True))["use_rslora"] is True


def test_an_identity_is_plain_json_and_contains_that_of_its_base_model(run: RunConfig):
    value = run_identity(run)
    assert json.loads(json.dumps(value)) == value
    assert base_identity(changed(run, "seed", 5)).items() <= value.items()


# ---- weights


def test_a_moved_folder_of_weights_keeps_the_identity(run: RunConfig, tmp_path: Path):
    before = run_identity(run)
    (tmp_path / "backbone").rename(tmp_path / "moved")
    assert run_identity(changed(run, "model.backbone", str(tmp_path / "moved"))) == before


@pytest.mark.parametrize("part", PARTS)
def test_the_content_of_the_weights_is_part_of_the_identity(run: RunConfig, part: str):
    before = run_identity(run)
    folder = Path(getattr(run.model, part))
    (folder / "README.md").write_text("not part of the weights")
    assert run_identity(run) == before
    file = folder / "model.safetensors"
    file.write_bytes(b"X" + file.read_bytes()[1:])
    assert run_identity(run)["weights"][part] != before["weights"][part]


def test_a_change_deep_inside_large_weights_is_part_of_the_identity(run: RunConfig):
    file = Path(run.model.backbone) / "model.safetensors"
    file.write_bytes(bytes(4 << 20))
    before = run_identity(run)
    file.write_bytes(bytes(3 << 20) + b"\1" * (1 << 20))
    after = run_identity(run)
    assert after["weights"] == before["weights"] and after["contents"] != before["contents"]


@pytest.mark.parametrize(
    ("key", "folder"), [("model.tokenizer", "tokenizer"), (None, "backbone"), ("model.lvlm", "lvlm")]
)
def test_the_tokenizer_is_part_of_the_identity(run: RunConfig, tmp_path: Path, key: str | None, folder: str):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "tokenizer.model").write_text("a")
    run = run if key is None else changed(run, key, str(tmp_path / folder))
    before = content_digests(run.model)["tokenizer"]
    (tmp_path / folder / "tokenizer.model").write_text("b")
    assert content_digests(run.model)["tokenizer"] != before


def test_the_fingerprints_of_the_embedded_weights_stay():
    assert weights_fingerprint(composed([]).model) == {
        "backbone": "1d69931289272b74",
        "vision_tower": "96772f57c25aa2a1",
        "projector": "f1515dfbb76129da",
    }


# ---- the hub


@pytest.fixture
def cached_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Sets the commit that a revision of org/llm has in the local cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def cached_commit(commit: str, revision: str = "main") -> None:
        ref = tmp_path / "hub" / "models--org--llm" / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)

    return cached_commit


def test_the_commit_of_a_hub_repository_is_part_of_identity_record_and_prediction_key(run: RunConfig, cached_commit):
    run = changed(run, "model.backbone", "org/llm")
    assert weights_fingerprint(run.model)["backbone"] == "org/llm", "not known yet"
    keys = set()
    for commit in ("a" * 40, "b" * 40):
        cached_commit(commit)
        assert run_identity(run)["weights"]["backbone"] == commit
        assert identity.hub_commits(run.model) == {"backbone": commit}
        keys.add(weights_digest(run.model, Path("no run")))
    assert len(keys) == 2


def test_a_revision_in_a_hub_id_chooses_the_commit(run: RunConfig, cached_commit):
    cached_commit("a" * 40)
    cached_commit("c" * 40, "v1.0")
    backbones = ("org/llm", "org/llm@v1.0", f"org/llm@{'d' * 40}")
    commits = [weights_fingerprint(changed(run, "model.backbone", name).model)["backbone"] for name in backbones]
    assert commits == ["a" * 40, "c" * 40, "d" * 40]


def test_the_revision_of_a_whole_lvlm_may_be_a_key_of_its_own(run: RunConfig):
    overrides = ["model.lvlm=org/llm", "model.revision=v1.0"]
    assert composed(overrides).model == composed(["model.lvlm=org/llm@v1.0"]).model


# ---- identities of the first version


def test_the_first_versions_identity_has_the_hash_that_its_directories_are_named_by():
    folder = Path(__file__).parents[1] / "golden" / "old_runs" / "sparse_uniform-1_100pct_seed0_8c906dc5"
    recorded = json.loads((folder / "record.json").read_text(encoding="utf-8"))["identity"]
    assert files.digest(recorded)[:8] == "8c906dc5"
    current = {**migrate_identity(recorded), "contents": {}}
    assert legacy_identity(current, load_frozen(folder / "config.yaml").model) == recorded


def test_an_identity_of_the_first_version_loses_names_and_paths(run: RunConfig):
    run = changed(run, "engine.skip_vision_tower", True)
    current = run_identity(run)
    legacy = legacy_identity(current, run.model)
    assert legacy["model"]["name"] == "m" and legacy["engine"]["skip_tower"] is True
    assert {**migrate_identity(legacy), "contents": current["contents"]} == current


def test_a_directory_of_the_first_version_is_found(run: RunConfig):
    legacy = legacy_identity(run_identity(run), run.model)
    folder = Path(run.runtime.output_root) / "finetune" / "m" / f"label_{files.digest(legacy)[:8]}"
    folder.mkdir(parents=True)
    assert lookup.run_directory(run, run_identity(run), label="later") == folder


# ---- directories


def test_a_directory_is_named_by_job_model_label_and_hash(run: RunConfig):
    folder, _ = lookup.locate_finetune(run, select_layers(run), DATA)
    short_hash = files.digest(run_identity(run))[:8]
    assert folder == Path(run.runtime.output_root) / "finetune" / "m" / f"sparse_uniform-8_100pct_seed0_{short_hash}"


def test_a_directory_is_found_under_another_label_and_another_model_name(run: RunConfig):
    folder = lookup.run_directory(run, run_identity(run), label="earlier")
    assert not folder.exists()
    folder.mkdir(parents=True)
    renamed = changed(run, "model.name", "renamed")
    assert lookup.run_directory(run, run_identity(run), label="later") == folder
    assert lookup.run_directory(renamed, run_identity(renamed), label="later") == folder
    assert lookup.run_directory(run, {**run_identity(run), "seed": 1}, label="later") != folder


@pytest.mark.parametrize("name", ["org/model", "../up", "a b", "*"])
def test_a_model_of_any_name_stays_below_its_job(run: RunConfig, name: str):
    folder = lookup.run_directory(changed(run, "model.name", name), base_identity(run), label="x")
    assert folder.parent.parent == Path(run.runtime.output_root) / "finetune"


def test_a_directory_is_absolute(run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = lookup.run_directory(changed(run, "runtime.output_root", "outputs"), base_identity(run), label="x")
    assert folder.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "label"),
    [
        ("seed", 3, "sparse_uniform-8_100pct_seed3"),
        ("data_fraction.fraction", 0.25, "sparse_uniform-8_25pct_seed0"),
        ("data_fraction.fraction", 0.005, "sparse_uniform-8_0.5pct_seed0"),
        ("layer_count.k", 2, "sparse_uniform-2_100pct_seed0"),
        ("selector.layers", [5, 6], "layers-2_100pct_seed0"),
        ("selector", SelectorConfig(name="mine", rule="fixed", layers=list(range(8))), "mine-8_100pct_seed0"),
    ],
)
def test_a_label_names_selector_layers_data_and_seed(run: RunConfig, key: str, value: Any, label: str):
    other = changed(run, key, value)
    assert lookup.finetune_label(other, len(select_layers(other))) == label
