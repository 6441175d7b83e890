"""The W&B run of a record, read back from what an offline run leaves on disk."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from vrx import tracking
from vrx.config import WandbConfig

RECORD = {
    "scores": {"tiny_gqa": {"value": 0.5, "stderr": 0.1, "num_samples": 6, "metrics": {}}},
    "train": {"gpu_hours": 0.0},
}


def write_curve(folder: Path, steps: int) -> None:
    rows = [{"step": n, "loss": 5.0 - n, "lr": 1e-3, "tokens": 100, "seconds": 0.5} for n in range(steps)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_back(folder: Path) -> list[dict]:
    """All records of the newest offline run in a folder."""
    path = max((folder / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime)
    told = subprocess.run(
        [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_a_run_is_offline_without_an_account_and_asks_nothing(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tracking.resolve_mode(WandbConfig()) == "offline"
    assert tracking.resolve_mode(WandbConfig(mode="disabled")) == "disabled"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert tracking.resolve_mode(WandbConfig()) == "online"


def values(told: list[dict], kind: str) -> list[dict]:
    return [record[kind] for record in told if record["type"] == kind]


def test_curve_scores_and_axes_are_in_the_run(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make_run("wandb.mode=offline", "wandb.tags=[mine]", "wandb.group=table1")
    write_curve(tmp_path, 3)
    with tracking.following(run, tmp_path, "abcd1234") as wandb_run:
        wandb_run.follow()
        wandb_run.finish(RECORD)
    told = read_back(tmp_path)
    (start,) = values(told, "run")
    assert (start["run_id"], start["run_group"], start["job_type"]) == ("abcd1234", "table1", "finetune")
    assert {"mine", "tiny", "sparse_uniform"} <= set(start["tags"])
    axes = {"model": "tiny", "selector": "sparse_uniform", "num_layers": 8, "data_fraction": 1, "seed": 0}
    assert axes.items() <= start["config"]["update"].items()
    rows = [row["item"] for row in values(told, "history")]
    assert [(row["train/step"], row["train/loss"]) for row in rows] == [(0, 5), (1, 4), (2, 3)]
    summary = {key: value for update in values(told, "summary") for key, value in update["update"].items()}
    assert summary["eval/tiny_gqa"] == 0.5 and summary["cost/gpu_hours"] == 0


def test_the_number_of_layers_is_that_of_the_layers_tuned(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make_run("wandb.mode=offline", "selector=all", "layer_count=8_layers")
    with tracking.following(run, tmp_path, "abcd1234"):
        pass
    (start,) = values(read_back(tmp_path), "run")
    assert start["config"]["update"]["num_layers"] == 32


def test_a_resumed_run_sends_no_step_twice(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run, sent = make_run("wandb.mode=offline"), []
    for steps in (2, 4):
        write_curve(tmp_path, steps)
        with tracking.following(run, tmp_path, "abcd1234") as wandb_run:
            wandb_run.follow()
        sent += [(row["step"]["num"], row["item"]["train/step"]) for row in values(read_back(tmp_path), "history")]
        time.sleep(1.1)  # offline folders are named by the second
    assert sent == [(step, step) for step in range(4)]


def test_a_failing_dashboard_stops_nothing(make_run, tmp_path, caplog):
    run = make_run("wandb.mode=offline")
    (tmp_path / "wandb").write_text("a file where wandb wants its folder")
    (tmp_path / "train.jsonl").mkdir()
    with tracking.following(run, tmp_path, "abcd1234") as wandb_run:
        wandb_run.follow()
        wandb_run.finish({"broken": True})
