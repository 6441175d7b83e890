"""Connecting to W&B: online only with an account, offline where the server is of no use, nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.wandb_files import of_kind, read_offline_run

from vrx.config.schema import WandbConfig
from vrx.report.wandb_connection import read_run_file, resolve_mode, wandb_environment

KEY = "0123456789abcdef0123456789abcdef01234567"  # belongs to no account


def test_without_an_account_a_run_is_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_mode(WandbConfig()) == "offline"
    assert resolve_mode(WandbConfig(mode="disabled")) == "disabled"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode(WandbConfig()) == "online"


def test_the_environment_is_restored_and_the_users_values_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "false")
    with wandb_environment(tmp_path):
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb")
        assert os.environ["WANDB_SILENT"] == "false"
    assert "WANDB_DATA_DIR" not in os.environ


def test_two_directories_of_one_run_have_two_wandb_runs(tmp_path: Path):
    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
    mine, yours = (read_run_file(tmp_path / name, "abcd1234") for name in ("mine", "yours"))
    assert mine.id.startswith("abcd1234-")
    assert mine.id != yours.id


def test_a_directory_keeps_its_wandb_run(tmp_path: Path):
    run_file = read_run_file(tmp_path, "abcd1234")
    run_file.last_step = 7
    run_file.save()
    assert read_run_file(tmp_path, "abcd1234") == run_file


@pytest.mark.parametrize("left", ["wandb.json", "wandb/"])
def test_a_run_of_an_earlier_version_keeps_its_id(tmp_path: Path, left: str):
    if left.endswith("/"):
        (tmp_path / left).mkdir()
    else:
        (tmp_path / left).write_text(json.dumps({"id": "abcd1234", "last_step": 3}))
    assert read_run_file(tmp_path, "abcd1234").id == "abcd1234"


@pytest.mark.parametrize("answers", [False, True], ids=["accepts and is silent", "answers something else"])
def test_a_useless_server_costs_one_line_and_everything_is_logged_offline(make_run, tmp_path: Path, answers: bool):
    run = make_run("wandb.mode=online")
    rows = [{"step": n, "loss": 5.0 - n, "lr": 1e-3, "tokens": 100, "seconds": 0.5} for n in range(2)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run.json").write_text(json.dumps(dataclasses.asdict(run)))
    code = f"""
import json, sys
from pathlib import Path
from omegaconf import OmegaConf
from vrx.config import frozen
from vrx.report import wandb_connection, wandb_run
wandb_connection.RESPONSE_TIMEOUT, wandb_connection.INIT_TIMEOUT = 1, 3
run = frozen.to_run(OmegaConf.load({str(tmp_path / "run.json")!r}))
with wandb_run.following(run, Path({str(tmp_path)!r}), "abcd1234", layers=[31]) as wandb_logger:
    wandb_logger.follow()
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve_uselessly, args=(server, answers), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment = {**os.environ, "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "HOME": str(tmp_path)}
        environment.pop("WANDB_MODE", None)
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0 and result.stdout == "", result
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(f"vrx: W&B: {url} ") and "wandb sync" in result.stderr
    history = of_kind(read_offline_run(tmp_path), "history")
    assert [row["item"]["train/step"] for row in history] == [0, 1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def serve_uselessly(server: socket.socket, answers: bool) -> None:
    """Accept every connection; answer the health check at most."""
    connections = []
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connections.append(connection)
        if answers and b"healthz" in connection.recv(1000):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.close()
