"""Projectors pre-trained by the real command: what is left behind, killed runs, and who finds the result."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.captions import write_captions
from support.composing import finished
from support.dinov2_models import PATCH, SIDE, write_tower
from support.whole_runs import PLAIN, STEPS, ZERO, curve, kill_at

from vrx.models.projector_weights import read_projector
from vrx.report.collect import find_runs
from vrx.runs.content_digest import part_fingerprint

Command = Callable[..., subprocess.CompletedProcess]
TRAINING = ("pretrain", *STEPS, "engine.name=torch")


def pretraining(root: Path) -> Path:
    """The directory of the only pre-training below a folder."""
    (folder,) = (root / "outputs" / "pretrain" / "tiny").iterdir()
    return folder


def has_steps(number: int) -> Callable[[Path], bool]:
    def condition(root: Path) -> bool:
        logs = root.glob("outputs/pretrain/*/*/train.jsonl")
        return any(len(log.read_text().splitlines()) >= number for log in logs)

    return condition


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_captions(tmp_path_factory.mktemp("captions"))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, captions: tuple[str, str]) -> Path:
    """Where a pre-training came to its end undisturbed; tests that add to it work on a copy."""
    return finished(tmp_path_factory.mktemp("pretrained"), *TRAINING, *captions)


@pytest.fixture
def copy(pretrained: Path, tmp_path: Path) -> Path:
    shutil.copytree(pretrained / "outputs", tmp_path / "outputs")
    return tmp_path


def test_a_pretraining_writes_the_projector_its_record_and_the_curve(pretrained: Path):
    folder = pretraining(pretrained)
    record = json.loads((folder / "record.json").read_text())
    assert folder.name.startswith("100pct_seed0_") and folder.name.endswith(record["run_id"])
    assert record["layers"] == [] and record["scores"] == {}
    assert not record["identity"].keys() & {"lora", "layers"} and "projector" not in record["identity"]["weights"]
    projector = load_file(folder / "projector" / "projector.safetensors")
    assert sum(tensor.numel() for tensor in projector.values()) == record["train"]["trainable_parameters"]
    assert record["train"]["steps"] == len(curve(folder)) == 6
    assert record["provenance"]["train"]["versions"]["torch"]
    assert not (folder / "checkpoint").exists() and not (folder / "adapter").exists()


def test_the_official_layout_reads_back_to_the_same_bits(pretrained: Path):
    folder = pretraining(pretrained)
    ours, official = read_projector(folder / "projector"), read_projector(folder / "official")
    assert ours.keys() == official.keys() and all(torch.equal(ours[name], official[name]) for name in ours)
    stored = torch.load(folder / "official" / "mm_projector.bin", weights_only=True)
    kinds = [f"model.mm_projector.{number}.{kind}" for number in (0, 2) for kind in ("weight", "bias")]
    assert sorted(stored) == sorted(kinds)
    config = json.loads((folder / "official" / "config.json").read_text())
    hidden, inputs = stored["model.mm_projector.0.weight"].shape
    assert (config["hidden_size"], config["mm_hidden_size"]) == (hidden, inputs)
    assert config["mm_projector_type"] == "mlp2x_gelu" and config["mm_vision_select_layer"] == -2
    assert config["mm_vision_tower"] == "vrx:tiny/weights/vision_tower" and config["model_type"] == "llava_llama"


def test_a_finished_pretraining_is_left_alone_and_listed(pretrained: Path, captions: tuple[str, str], vrx: Command):
    folder = pretraining(pretrained)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    result = vrx(*TRAINING, *captions, cwd=pretrained)
    assert result.returncode == 0 and "nothing to do" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"} == before
    (run,) = find_runs(pretrained / "outputs")
    assert run.is_pretraining and not run.is_tuned and not run.is_untouched


def test_a_killed_pretraining_ends_bit_equal_by_the_same_command(
    pretrained: Path, captions: tuple[str, str], vrx: Command, tmp_path: Path
):
    kill_at(tmp_path, (*TRAINING, *captions), has_steps(3))
    assert not (pretraining(tmp_path) / "projector").exists()
    result = vrx(*TRAINING, *captions)
    assert result.returncode == 0, result.stderr
    files = [pretraining(root) / "projector" / "projector.safetensors" for root in (tmp_path, pretrained)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert curve(pretraining(tmp_path)) == curve(pretraining(pretrained))


@pytest.mark.slow
def test_zero_3_in_two_processes_trains_the_same_projector(pretrained: Path, captions: tuple[str, str], tmp_path: Path):
    zero = [option for option in ZERO if not option.startswith("benchmark")]
    finished(tmp_path, "pretrain", *zero, "runtime.cpu_processes=2", *captions)
    assert curve(pretraining(tmp_path)) == pytest.approx(curve(pretraining(pretrained)), rel=2e-5)


@pytest.mark.slow
def test_a_tower_and_a_backbone_become_an_lvlm(captions: tuple[str, str], tmp_path: Path):
    """Between a DINOv2 tower and the embedded backbone nobody has trained a projector; both stages under ZeRO-3."""
    tower = write_tower(tmp_path / "tower")
    features = ("model.image_processor=dinov2", f"model.num_image_tokens={(SIDE // PATCH) ** 2}")
    model = (f"model.vision_tower={tower}", *features, "model.vision_feature_select_strategy=default")
    finished(tmp_path, "pretrain", *STEPS, *captions, *model)
    finished(tmp_path, *ZERO, *model, "model.projector=pretrained")
    (path,) = tmp_path.glob("outputs/finetune/tiny/*/record.json")
    record = json.loads(path.read_text())
    assert record["model"]["pretraining"] == pretraining(tmp_path).name
    assert record["train"]["steps"] == 6 and set(record["scores"]) == {"tiny_gqa", "tiny_mmlu"}


def test_a_sweep_over_seeds_skips_what_is_finished(pretrained: Path, captions: tuple[str, str], vrx: Command):
    options = (*TRAINING[1:], *captions, "sweep.dry_run=true", "seed=0,1")
    result = vrx("-m", "job=pretrain", *options, cwd=pretrained)
    assert result.returncode == 0, result.stderr
    done, to_do = [line for line in result.stdout.splitlines() if "seed=" in line]
    assert "done" in done and "to do" in to_do and " h" in to_do  # the hours are those of the other seed


def test_a_finetune_finds_the_projector_and_records_whose_it_is(copy: Path, vrx: Command):
    result = vrx(*PLAIN, "train.max_steps=1", "model.projector=pretrained", cwd=copy)
    assert result.returncode == 0, result.stderr
    (path,) = copy.glob("outputs/finetune/tiny/*/record.json")
    record = json.loads(path.read_text())
    folder = pretraining(copy)
    assert record["model"]["pretraining"] == folder.name
    assert record["model"]["parts"]["projector"] == str(folder / "projector")
    assert record["identity"]["weights"]["projector"] == part_fingerprint(str(folder / "projector"))


def test_a_pretraining_is_evaluated_but_has_no_layers_to_score_or_revert(copy: Path, vrx: Command):
    folder = pretraining(copy)
    result = vrx("evaluate", "benchmark=tiny_mmlu", f"job.run={folder}", cwd=copy)
    assert result.returncode == 0, result.stderr
    assert set(json.loads((folder / "record.json").read_text())["scores"]) == {"tiny_mmlu"}
    result = vrx("score", f"job.run={folder}", cwd=copy)
    assert result.returncode == 2 and "a pre-training of the projector" in result.stderr.splitlines()[-1]


def test_without_a_fitting_projector_the_command_is_named(copy: Path, vrx: Command):
    for options in (("runtime.output_root=elsewhere",), ("model.vision_feature_layer=-1",)):
        result = vrx(*PLAIN, "model.projector=pretrained", *options, cwd=copy)
        assert result.returncode == 2 and "run: vrx pretrain model=tiny" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (copy / "outputs" / "finetune").exists()


def test_several_fitting_projectors_are_listed(copy: Path, vrx: Command):
    folder = pretraining(copy)
    other = folder.with_name("100pct_seed1_01234567")
    shutil.copytree(folder, other)
    result = vrx(*PLAIN, "model.projector=pretrained", cwd=copy)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert str(folder / "projector") in result.stderr and str(other / "projector") in result.stderr
    shutil.rmtree(other / "projector")  # only one holds a projector, whatever its record says
    result = vrx(*PLAIN, "model.projector=pretrained", "sweep.dry_run=true", cwd=copy)
    assert result.returncode == 0, result.stderr
