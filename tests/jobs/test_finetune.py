"""Whole runs through the real command: engines agree, killed runs end bit-equal, finished ones are left alone."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file
from support.processes import started
from support.whole_runs import ENVIRONMENT, PLAIN, adapter, command, curve, has_steps, kill_at, rows, run_dir


def test_a_run_writes_the_documented_files(undisturbed):
    folder = run_dir(undisturbed)
    assert folder.name.startswith("sparse_uniform-8_100pct_seed0_")
    names = {"config.yaml", "layers.json", "adapter", "train.jsonl", "train.json", "answers", "record.json"}
    assert names <= {path.name for path in folder.iterdir()}
    record = json.loads((folder / "record.json").read_text())
    assert set(record) >= {"run_id", "identity", "layers", "selectors", "train", "scores", "provenance"}
    assert record["layers"] == [0, 4, 8, 12, 18, 22, 26, 30]
    wanted = {"steps", "seconds", "gpu_hours", "tokens_per_second", "peak_memory_gb", "trainable_parameters"}
    assert wanted | {"final_loss"} <= set(record["train"]) and record["train"]["steps"] == 6
    for entry in record["scores"].values():
        assert set(entry) == {"value", "num_samples", "stderr", "metrics_stderr", "metrics", "chance"}
        assert 0 <= entry["value"] <= 1
    assert folder.name.endswith(record["run_id"])


def test_the_adapter_on_disk_holds_every_tensor_that_was_trained(undisturbed):
    """PEFT leaves out tensors whose names it does not know, and loads a file without them, in silence."""
    folder = run_dir(undisturbed)
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    projector = load_file(folder / "adapter" / "projector.safetensors")
    trained = json.loads((folder / "record.json").read_text())["train"]["trainable_parameters"]
    assert sum(tensor.numel() for tensor in tensors.values()) == trained
    saved = {name.rpartition("multi_modal_projector.")[2]: tensor for name, tensor in tensors.items()}
    assert projector and all(torch.equal(saved[name], tensor) for name, tensor in projector.items())
    assert all(tensor.any() for tensor in tensors.values())  # B starts at 0 and has moved


def test_the_same_command_again_changes_nothing(undisturbed, vrx):
    folder = run_dir(undisturbed)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    result = vrx(*PLAIN, cwd=undisturbed)
    assert result.returncode == 0 and "nothing to do" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"} == before


def test_another_benchmark_is_added_without_training_again(undisturbed, vrx):
    folder = run_dir(undisturbed)
    before = (folder / "train.json").stat().st_mtime_ns
    result = vrx(*PLAIN[:-1], "benchmark=tiny_scienceqa", cwd=undisturbed)
    assert result.returncode == 0, result.stderr
    assert (folder / "train.json").stat().st_mtime_ns == before
    assert set(json.loads((folder / "record.json").read_text())["scores"]) == {
        "tiny_gqa",
        "tiny_mmlu",
        "tiny_scienceqa",
    }


@pytest.mark.parametrize(("whole_group", "steps"), [(True, 4), (False, 1)], ids=["all processes", "the driver alone"])
def test_a_killed_run_ends_bit_equal_by_the_same_command(undisturbed, vrx, tmp_path, whole_group, steps):
    kill_at(tmp_path, PLAIN, has_steps(steps), whole_group=whole_group)
    result = vrx(*PLAIN)
    assert result.returncode == 0, result.stderr
    assert adapter(run_dir(tmp_path)) == adapter(run_dir(undisturbed))
    assert curve(run_dir(tmp_path)) == curve(run_dir(undisturbed))
    assert [row["step"] for row in rows(run_dir(tmp_path))] == list(range(6))
    assert not (run_dir(tmp_path) / "checkpoint").exists()


def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_taken(undisturbed, tmp_path, vrx):
    kill_at(tmp_path, PLAIN, lambda root: list(root.glob("outputs/finetune/*/*/checkpoint/step-4")))
    folder = run_dir(tmp_path)
    weights = folder / "checkpoint" / "step-4" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = vrx(*PLAIN)
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "damaged" in line]
    assert line.startswith("vrx: ") and "step-4/weights.safetensors: damaged" in line and "from step-2" in line
    assert adapter(folder) == adapter(run_dir(undisturbed)) and curve(folder) == curve(run_dir(undisturbed))


def test_two_commands_on_one_run_do_not_collide(tmp_path, vrx):
    with started(command(*PLAIN), cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as first:
        while not list(tmp_path.glob("outputs/finetune/*/*/config.yaml")):
            assert first.poll() is None
            time.sleep(0.05)
        result = vrx(*PLAIN)
        assert result.returncode == 2 and "another vrx works on this run" in result.stderr
        assert first.wait() == 0


def test_the_base_model_and_a_finished_run_are_evaluated(undisturbed, vrx):
    result = vrx("job=evaluate", "benchmark=tiny_gqa", cwd=undisturbed)
    assert result.returncode == 0, result.stderr
    (path,) = (undisturbed / "outputs" / "evaluate" / "tiny").glob("untouched_*/record.json")
    assert json.loads(path.read_text())["layers"] == []
    result = vrx("job=evaluate", f"job.run={run_dir(undisturbed)}", "benchmark=tiny_ocrvqa", cwd=undisturbed)
    assert result.returncode == 0, result.stderr
    assert "tiny_ocrvqa" in json.loads((run_dir(undisturbed) / "record.json").read_text())["scores"]
