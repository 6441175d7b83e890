"""Current LVLMs under ZeRO-3 on two ranks, one of which has texts alone, learn what they learn in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.composing import composed
from support.photographs import PHOTOGRAPHS, QUESTIONS
from support.whole_runs import adapter, curve, rows

from vrx.config.schema import RunConfig, TrainConfig
from vrx.data import run_data, sampler
from vrx.data.instructions import instruction_dataset
from vrx.jobs.finetune.worker import train
from vrx.launch.preemption import stop_file
from vrx.runs import checkpoint_files
from vrx.runs.files import write_json
from vrx.runs.layer_selection import select_layers, with_frozen_layers
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir

OPTIONS = {"qwen3_vl": "qwen3-vl-2b", "smolvlm": "smolvlm2-500m", "gemma3": "gemma3-4b"}  # M-RoPE, tiles, masked rows
SIZES = {"global_batch_size": 4, "micro_batch_size": 2}
FIXED = ["model.num_layers=8", "layer_count.k=3", "train.max_steps=3", "train.dtype=float32", "train.lr=1e-3"]
FIXED += ["train.warmup_ratio=0", "train.connector=true", "lora.r=4", "lora.dropout=0", "runtime.num_workers=0"]
FIXED += ["wandb.mode=disabled", "benchmark=[gqa]", *(f"train.{key}={value}" for key, value in SIZES.items())]
HAS_PICTURE = [[0, 0, 1, 1], [1, 2, 0, 0], [1, 0, 0, 1]]  # pictures of each step's rows: two of each rank
RANK = """
import sys
from contextlib import suppress
from pathlib import Path
from vrx.jobs.finetune.worker import train
from vrx.launch.preemption import Preempted
from vrx.launch.ranks import end_process
from vrx.runs.run_config import read_command_config
for folder in map(Path, sys.argv[1:]):
    with suppress(Preempted):
        train(read_command_config(folder), folder)
end_process(0)
"""


def write_records(file: Path) -> None:
    """Twelve conversations, with pictures as `HAS_PICTURE` says."""
    photographs = [json.loads(line)["image"] for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    plan = sampler.BatchPlan(instruction_dataset.draw_subset(12, 1.0, seed=0), TrainConfig(**SIZES), seed=0)  # type: ignore[arg-type]
    records: list[dict[str, Any]] = [{}] * 12
    for step, numbers in enumerate(HAS_PICTURE):
        rows = [row for chunk in range(2) for row in plan.chunk(step, chunk)]
        for row, number in zip(rows, numbers, strict=True):
            question = {"role": "user", "content": "<image>" * number + "what colour is number" + " cat" * row}
            answer = {"role": "assistant", "content": f"it is a red square of {row} dots"}
            pictures = [photographs[(row + place) % len(photographs)] for place in range(number)]
            records[row] = {"messages": [question, answer]} | ({"images": pictures} if pictures else {})
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def prepared(folder: Path, overrides: list[str]) -> tuple[RunConfig, Path]:
    """A run and its directory with what the driver leaves there for the ranks."""
    run = composed(overrides)
    run = with_frozen_layers(run, select_layers(run))
    table = run_data.build(run, folder.parent / "data", digest=run_data.digest(run))
    folder.mkdir(parents=True)
    write_json(RunDir(folder).data, {"table": str(table)})
    write_config(folder, run)
    return run, folder


def train_on_two_ranks(*folders: Path) -> None:
    """Train prepared runs one after the other, until each is finished or asked to stop."""
    script = folders[0].parent / "rank.py"
    script.write_text(RANK)
    command = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command += [str(script), *map(str, folders)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr


def largest_difference(ours: Path, theirs: Path) -> float:
    """Between what two runs have trained, in any number."""
    both: list[Mapping[str, Any]] = [
        {
            (path.name, name): tensor
            for path in (RunDir(folder).adapter).glob("*.safetensors")
            for name, tensor in load_file(path).items()
        }
        for folder in (ours, theirs)
    ]
    assert both[0].keys() == both[1].keys()
    assert any("lora_B" in name and tensor.any() for (_, name), tensor in both[0].items())
    return max(float((both[0][name] - both[1][name]).abs().max()) for name in both[0])


@pytest.mark.slow
def test_two_ranks_learn_what_one_learns(tiny_family: Callable[[str], Any], tmp_path: Path):
    write_records(tmp_path / "talks.jsonl")
    data = [f"instructions.path={tmp_path}/talks.jsonl", f"instructions.image_folder={PHOTOGRAPHS}"]
    on_ranks = {}
    for name, option in OPTIONS.items():
        options = [f"model={option}", f"model.lvlm={tiny_family(name).folder}", *data, *FIXED]
        train(*prepared(tmp_path / "one" / name, [*options, "engine.name=torch"]))
        _, on_ranks[name] = prepared(
            tmp_path / "two" / name, [*options, "engine.name=deepspeed", "engine.zero_stage=3"]
        )
    train_on_two_ranks(*on_ranks.values())
    for name, folder in on_ranks.items():
        alone = tmp_path / "one" / name
        assert curve(folder) == pytest.approx(curve(alone), abs=1e-6)
        assert largest_difference(folder, alone) < 1e-6, name


@pytest.mark.slow
def test_a_connector_that_ranks_share_out_goes_on_from_a_checkpoint(tiny_family: Callable[[str], Any], tmp_path: Path):
    write_records(tmp_path / "talks.jsonl")
    options = [f"model={OPTIONS['gemma3']}", f"model.lvlm={tiny_family('gemma3').folder}", *FIXED]
    options += [f"instructions.path={tmp_path}/talks.jsonl", f"instructions.image_folder={PHOTOGRAPHS}"]
    options += ["engine.name=deepspeed", "engine.zero_stage=3"]
    (_, straight), (_, stopped) = (prepared(tmp_path / name / "run", options) for name in ("straight", "stopped"))
    stop_file(stopped).touch()
    train_on_two_ranks(straight, stopped)
    assert [folder.name for folder in checkpoint_files.folders(stopped)] == ["step-1"] and len(rows(stopped)) == 1
    stop_file(stopped).unlink()
    train_on_two_ranks(stopped)
    assert curve(stopped) == curve(straight) and len(rows(stopped)) == 3
    assert adapter(stopped) == adapter(straight)
