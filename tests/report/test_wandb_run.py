"""The W&B run of a record, read back from what an offline run leaves on disk."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from vrx.config.frozen import freeze
from vrx.config.schema import WandbConfig
from vrx.evaluation import benchmarks, prediction_files, scoring
from vrx.evaluation.prediction_files import PredictionHeader
from vrx.report import wandb_run
from vrx.report.wandb_run import SIDE, following, resolve_mode

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
    assert resolve_mode(WandbConfig()) == "offline"
    assert resolve_mode(WandbConfig(mode="disabled")) == "disabled"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode(WandbConfig()) == "online"


def values(told: list[dict], kind: str) -> list[dict]:
    return [record[kind] for record in told if record["type"] == kind]


def test_curve_scores_and_axes_are_in_the_run(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make_run("wandb.mode=offline", "wandb.tags=[mine]", "wandb.group=table1")
    write_curve(tmp_path, 3)
    with following(run, tmp_path, "abcd1234") as follower:
        follower.follow()
        follower.finish(RECORD)
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
    with following(run, tmp_path, "abcd1234"):
        pass
    (start,) = values(read_back(tmp_path), "run")
    assert start["config"]["update"]["num_layers"] == 32


def test_a_resumed_run_sends_no_step_twice(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run, sent = make_run("wandb.mode=offline"), []
    for steps in (2, 4):
        write_curve(tmp_path, steps)
        with following(run, tmp_path, "abcd1234") as follower:
            follower.follow()
        sent += [(row["step"]["num"], row["item"]["train/step"]) for row in values(read_back(tmp_path), "history")]
        time.sleep(1.1)  # offline folders are named by the second
    assert sent == [(step, step) for step in range(4)]


def test_a_failing_dashboard_stops_nothing(make_run, tmp_path, caplog):
    run = make_run("wandb.mode=offline")
    (tmp_path / "wandb").write_text("a file where wandb wants its folder")
    (tmp_path / "train.jsonl").mkdir()
    with following(run, tmp_path, "abcd1234") as follower:
        follower.follow()
        follower.finish({"broken": True})


def test_some_predictions_of_each_benchmark_are_a_table_with_small_pictures(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make_run("wandb.mode=offline", "benchmark=[tiny_gqa,tiny_ocrvqa]")
    scores = {}
    for name, config in run.benchmark.items():
        given = [sample.answer for sample in benchmarks.samples(name, config, limit=None)]
        prediction_files.write_predictions(
            prediction_files.predictions_file(tmp_path, name), PredictionHeader("any key"), given
        )
        scores[name] = scoring.score_benchmark(config, given)
    (tmp_path / "config.yaml").write_text(freeze(run))
    write_curve(tmp_path, 2)
    monkeypatch.setattr(wandb_run, "NUM_WORST", 2)
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)  # set by the runs before
    with following(run, tmp_path, "abcd1234") as follower:
        follower.finish({**RECORD, "identity": {}, "layers": [], "scores": scores})
    told = read_back(tmp_path)
    (row,) = [row for row in values(told, "history") if "predictions/tiny_gqa._type" in row["item"]]
    assert row["step"]["num"] == 2  # beyond the curve's
    table = next((tmp_path / "wandb").glob("offline-run-*/files/media/table/predictions/tiny_gqa_*.table.json"))
    shown = json.loads(table.read_text())
    assert shown["columns"][:4] == ["id", "chosen as", "image", "question"] and len(shown["data"]) == 6
    kept = [entry for artifact in values(told, "artifact") for entry in artifact["manifest"]["contents"]]
    pictures = [entry["local_path"] for entry in kept if entry["path"].endswith(".png")]
    assert pictures and all(Path(path).is_relative_to(tmp_path) for path in pictures)
    for path in pictures:
        with Image.open(path) as picture:
            assert max(picture.size) <= SIDE


KEY = "0123456789abcdef0123456789abcdef01234567"  # of no one


@pytest.mark.parametrize("speaks", [False, True], ids=["accepts and says nothing", "answers what it is not asked"])
def test_a_server_that_is_of_no_use_costs_a_line_and_everything_is_kept(make_run, tmp_path, speaks):
    run = make_run("wandb.mode=online")
    write_curve(tmp_path, 2)
    (tmp_path / "run.json").write_text(json.dumps(dataclasses.asdict(run)))
    code = f"""
import json, sys
from pathlib import Path
from omegaconf import OmegaConf
from vrx.config import frozen
from vrx.report import wandb_run
wandb_run.PROBE, wandb_run.INIT = 1, 3
run = frozen.to_run(OmegaConf.load({str(tmp_path / "run.json")!r}))
with wandb_run.following(run, Path({str(tmp_path)!r}), "abcd1234") as followed:
    followed.follow()
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=useless, args=(server, speaks), daemon=True).start()
        place = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment = {**os.environ, "WANDB_BASE_URL": place, "WANDB_API_KEY": KEY, "HOME": str(tmp_path)}
        environment.pop("WANDB_MODE", None)
        began = time.monotonic()
        told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        seconds = time.monotonic() - began
    assert told.returncode == 0 and told.stdout == "", told
    assert len(told.stderr.splitlines()) == 1, told.stderr
    assert told.stderr.startswith(f"vrx: W&B: {place} ") and "`wandb sync` sends it later" in told.stderr
    assert seconds < 30
    assert [row["item"]["train/step"] for row in values(read_back(tmp_path), "history")] == [0, 1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def useless(server: socket.socket, speaks: bool) -> None:
    """Accept whoever comes; answer the question whether one is there, and nothing else."""
    held = []
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        held.append(connection)
        if speaks and b"healthz" in connection.recv(1000):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.close()
