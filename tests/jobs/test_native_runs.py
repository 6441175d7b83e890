"""Whole runs of models that are one checkpoint, on photographs: four families are tuned and asked, two go on."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from support.native_runs import options, write_conversations
from support.whole_runs import ENVIRONMENT, command

pytestmark = pytest.mark.slow

JOBS = {  # a job on the result of a family's fine-tune, and what it leaves in its own directory
    "qwen2_5_vl": ("prune", ["prune.layers=[4]"], "record.json"),
    "internvl": ("score", [], "scores.json"),
    "llava_next": None,
    "gemma3": None,
}


@pytest.mark.parametrize("name", JOBS)
def test_fine_tune_and_a_job_on_its_result(name: str, tiny_family: Callable[[str], Any], tmp_path: Path) -> None:
    common = options(name, tiny_family(name).folder, write_conversations(tmp_path / "talk.jsonl"))
    _vrx(tmp_path, *common)
    (folder,) = (tmp_path / "outputs" / "finetune" / name).iterdir()
    _check_fine_tune(folder)
    if (job := JOBS[name]) is not None:
        word, own_options, result = job
        _vrx(tmp_path, word, *common, f"job.run={folder}", *own_options)
        assert list((tmp_path / "outputs" / word).rglob(result))


def _vrx(folder: Path, *overrides: str) -> None:
    words = command(*overrides, small=False)
    result = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def _check_fine_tune(folder: Path) -> None:
    """Adapters on the chosen layers of the decoder alone, finite losses, an answer to every question."""
    layers = json.loads((folder / "layers.json").read_text())["layers"]
    with safe_open(folder / "adapter" / "adapter_model.safetensors", "pt") as file:
        tuned = {key.partition(".layers.")[2].partition(".")[0] for key in file.keys()}  # noqa: SIM118
        assert tuned == {str(layer) for layer in layers}
        assert not any("vision" in key or "visual" in key for key in file.keys())  # noqa: SIM118
    losses = [json.loads(line)["loss"] for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    summary = json.loads((folder / "train.json").read_text())
    assert summary["execution"]["pictures"]["backend"] == "pil"
    record = json.loads((folder / "record.json").read_text())
    assert record["scores"]["mmbench"]["num_samples"] == 4
