"""The W&B run of a record, read back from what an offline run leaves on disk."""

from __future__ import annotations

import json
import subprocess
import sys
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


def test_curve_scores_and_axes_are_in_the_run(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make_run("wandb.mode=offline", "wandb.tags=[mine]", "wandb.group=table1")
    write_curve(tmp_path, 3)
    with tracking.following(run, tmp_path, "abcd1234") as wandb_run:
        wandb_run.follow()
        wandb_run.finish(RECORD)
    text = json.dumps(read_back(tmp_path))
    for expected in (
        "abcd1234",
        "table1",
        "finetune",
        "mine",
        "train/loss",
        "num_layers",
        "data_fraction",
        "eval/tiny_gqa",
    ):
        assert expected in text, expected


def test_a_resumed_run_does_not_send_a_step_twice(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make_run("wandb.mode=offline")
    for steps in (2, 4):
        write_curve(tmp_path, steps)
        with tracking.following(run, tmp_path, "abcd1234") as wandb_run:
            wandb_run.follow()
        sent = [
            record
            for record in read_back(tmp_path)
            if "history" in json.dumps(record) and "train/loss" in json.dumps(record)
        ]
        assert len([record for record in sent if "train/lr" in json.dumps(record)]) >= 1
        assert json.loads((tmp_path / "wandb.json").read_text())["last_step"] == steps - 1


def test_a_failing_dashboard_stops_nothing(make_run, tmp_path, caplog):
    run = make_run("wandb.mode=offline")
    (tmp_path / "wandb").write_text("a file where wandb wants its folder")
    (tmp_path / "train.jsonl").mkdir()
    with tracking.following(run, tmp_path, "abcd1234") as wandb_run:
        wandb_run.follow()
        wandb_run.finish({"broken": True})
