"""Whole runs through the real command: engines agree, killed runs end bit-equal, finished ones are left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import command
from safetensors.torch import load_file

STEPS = ("train.max_steps=6", "train.global_batch_size=4", "train.micro_batch_size=2", "runtime.checkpoint_every=2")
PLAIN = (*STEPS, "engine.name=torch", "benchmark=[tiny_gqa,tiny_mmlu]")


def run_dir(root: Path) -> Path:
    (found,) = (root / "outputs" / "finetune" / "tiny").iterdir()
    return found


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def curve(folder: Path) -> list[float]:
    return [row["loss"] for row in rows(folder)]


def adapter(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "adapter").iterdir()}


def kill_at(root: Path, overrides: tuple[str, ...], condition, *, whole_group: bool = True) -> None:
    """Start the command and kill it with SIGKILL once `condition(root)` holds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(*overrides), cwd=root, env=environment, start_new_session=True)
    deadline = time.monotonic() + 300
    while not condition(root) and process.poll() is None:
        assert time.monotonic() < deadline, "the run never got so far"
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it was killed"
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()  # the driver alone: its workers must not outlive it
    process.wait()


def has_steps(number: int):
    def condition(root: Path) -> bool:
        return any(
            len(path.read_text().splitlines()) >= number for path in root.glob("outputs/finetune/*/*/train.jsonl")
        )

    return condition


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command(*PLAIN), cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "tiny_gqa" in told.stdout and "record: " in told.stdout
    return root


def test_a_run_leaves_what_the_contract_names(undisturbed):
    folder = run_dir(undisturbed)
    assert folder.name.startswith("sparse_uniform-8_100pct_seed0_")
    names = {"config.yaml", "layers.json", "adapter", "train.jsonl", "train.json", "answers", "record.json"}
    assert names <= {path.name for path in folder.iterdir()}
    record = json.loads((folder / "record.json").read_text())
    assert set(record) == {"run_id", "identity", "layers", "selectors", "train", "scores", "provenance"}
    assert record["layers"] == [0, 4, 8, 12, 18, 22, 26, 30]
    wanted = {"steps", "seconds", "gpu_hours", "tokens_per_second", "peak_memory_gb", "trainable_parameters"}
    assert wanted | {"final_loss"} <= set(record["train"]) and record["train"]["steps"] == 6
    for entry in record["scores"].values():
        assert set(entry) == {"value", "num_samples", "stderr", "metrics"} and 0 <= entry["value"] <= 1
    assert folder.name.endswith(record["run_id"])


def test_the_adapter_on_disk_holds_every_tensor_that_was_trained(undisturbed):
    """PEFT leaves out tensors whose names it does not know, and loads a file without them, in silence."""
    folder = run_dir(undisturbed)
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    projector = load_file(folder / "adapter" / "projector.safetensors")
    trained = json.loads((folder / "record.json").read_text())["train"]["trainable_parameters"]
    assert sum(tensor.numel() for tensor in [*tensors.values(), *projector.values()]) == trained
    assert all(tensor.any() for tensor in tensors.values())  # B starts at 0 and has moved


def test_the_same_command_again_changes_nothing(undisturbed, vrx):
    folder = run_dir(undisturbed)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    told = vrx(*PLAIN, cwd=undisturbed)
    assert told.returncode == 0 and "nothing to do" in told.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"} == before


def test_another_benchmark_is_added_without_training_again(undisturbed, vrx):
    folder = run_dir(undisturbed)
    before = (folder / "train.json").stat().st_mtime_ns
    told = vrx(*PLAIN[:-1], "benchmark=tiny_scienceqa", cwd=undisturbed)
    assert told.returncode == 0, told.stderr
    assert (folder / "train.json").stat().st_mtime_ns == before
    assert set(json.loads((folder / "record.json").read_text())["scores"]) == {
        "tiny_gqa",
        "tiny_mmlu",
        "tiny_scienceqa",
    }


@pytest.mark.parametrize("whole_group", [True, False], ids=["everything", "the driver alone"])
def test_a_killed_run_ends_bit_equal_by_the_same_command(undisturbed, vrx, tmp_path, whole_group):
    kill_at(tmp_path, PLAIN, has_steps(random.randint(1, 5)), whole_group=whole_group)
    told = vrx(*PLAIN)
    assert told.returncode == 0, told.stderr
    assert adapter(run_dir(tmp_path)) == adapter(run_dir(undisturbed))
    assert curve(run_dir(tmp_path)) == curve(run_dir(undisturbed))
    assert [row["step"] for row in rows(run_dir(tmp_path))] == list(range(6))
    assert not (run_dir(tmp_path) / "checkpoint").exists()


def test_a_damaged_checkpoint_is_refused_by_name_and_keeps_the_log(tmp_path, vrx):
    kill_at(tmp_path, PLAIN, lambda root: list(root.glob("outputs/finetune/*/*/checkpoint/step-4")))
    folder = run_dir(tmp_path)
    before = (folder / "train.jsonl").read_text()
    weights = folder / "checkpoint" / "step-4" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    told = vrx(*PLAIN)
    assert told.returncode == 2
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("vrx:")]
    assert "step-4/weights.safetensors: damaged" in line and "delete" in line
    assert (folder / "train.jsonl").read_text() == before


def test_two_commands_on_one_run_do_not_collide(tmp_path, vrx):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command(*PLAIN), cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("outputs/finetune/*/*/config.yaml")):
        assert first.poll() is None
        time.sleep(0.05)
    told = vrx(*PLAIN)
    assert told.returncode == 2 and "another vrx works on this run" in told.stderr
    assert first.wait() == 0


def test_the_untouched_lvlm_is_scored_and_a_finished_run_again(undisturbed, vrx):
    told = vrx("job=evaluate", "benchmark=tiny_gqa", cwd=undisturbed)
    assert told.returncode == 0, told.stderr
    (path,) = (undisturbed / "outputs" / "evaluate" / "tiny").glob("untouched_*/record.json")
    assert json.loads(path.read_text())["layers"] == []
    told = vrx("job=evaluate", f"job.run={run_dir(undisturbed)}", "benchmark=tiny_ocrvqa", cwd=undisturbed)
    assert told.returncode == 0, told.stderr
    assert "tiny_ocrvqa" in json.loads((run_dir(undisturbed) / "record.json").read_text())["scores"]


@pytest.mark.slow
def test_zero3_on_one_rank_and_two_agrees_with_plain_torch(undisturbed, vrx, tmp_path):
    for name, options in {"one": (), "two": ("runtime.cpu_processes=2",)}.items():
        root = tmp_path / name
        root.mkdir()
        told = vrx(*STEPS, PLAIN[-1], *options, cwd=root)
        assert told.returncode == 0, told.stderr
        assert curve(run_dir(root)) == pytest.approx(curve(run_dir(undisturbed)), abs=1e-5)
        for file in ("adapter_model.safetensors", "projector.safetensors"):
            ours, plain = (load_file(run_dir(where) / "adapter" / file) for where in (root, undisturbed))
            assert ours.keys() == plain.keys()
            assert all((ours[key] - plain[key]).abs().max() < 1e-4 for key in ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("runtime.cpu_processes=2",), ("engine.zero_stage=2",)], ids=["3 on two ranks", "2"]
)
def test_a_killed_zero_run_ends_bit_equal(vrx, tmp_path, options):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    straight.mkdir()
    killed.mkdir()
    overrides = (*STEPS, PLAIN[-1], "eval.limit=1", *options)
    assert vrx(*overrides, cwd=straight).returncode == 0
    kill_at(killed, overrides, has_steps(3))
    told = vrx(*overrides, cwd=killed)
    assert told.returncode == 0 and "going on from step" in told.stderr
    assert adapter(run_dir(killed)) == adapter(run_dir(straight))
