"""Current LVLMs from the command to the record, on tiny checkpoints: trained, asked, scored, reverted, cut, checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import asked_elsewhere, plain_transformers
from support.composing import composed
from support.forked import run_forked
from support.photographs import PHOTOGRAPHS, QUESTIONS, write_conversations
from support.whole_runs import ENVIRONMENT, command

from vrx.config.schema import ModelConfig
from vrx.models.export import export_model
from vrx.runs.record import read_record
from vrx.runs.run_dir import RunDir

OPTIONS = {"qwen2_5_vl": "qwen2.5-vl-3b", "qwen3_5": "qwen3.5-4b", "smolvlm": "smolvlm2-500m", "gemma3": "gemma3-4b"}
MORE = {"qwen3_5": ["train.connector=true"], "gemma3": ["selector.kinds=each"]}
WITH_VIDEOS = ("qwen2_5_vl", "qwen3_5")  # their processors, for which transformers wants torchvision
FIXED = ["model.num_layers=8", "layer_count.k=3", "train.max_steps=4", "train.global_batch_size=6"]  # all samples
FIXED += ["train.micro_batch_size=2", "train.dtype=float32", "train.lr=1e-3", "lora.r=4", "lora.dropout=0"]
FIXED += ["runtime.num_workers=0", "eval.batch_size=2", "wandb.mode=disabled", "benchmark=[gqa]"]


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """Overrides that name conversations and questions about photographs."""
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    asked = [{**row, "answers": ["yes"]} for row in rows[:3]]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return [
        f"instructions.path={write_conversations(tmp_path / 'talks.jsonl')}",
        f"instructions.image_folder={PHOTOGRAPHS}",
        "benchmark.gqa.reader=null",
        f"benchmark.gqa.path={tmp_path}/questions.jsonl",
        f"benchmark.gqa.image_folder={PHOTOGRAPHS}",
        "benchmark.gqa.max_new_tokens=4",
        f"runtime.output_root={tmp_path}/outputs",
        *FIXED,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_all_jobs_work_on_a_family(tiny_family: Callable, data: list[str], tmp_path: Path, name: str):
    overrides = [f"model={OPTIONS[name]}", f"model.lvlm={tiny_family(name).folder}", *MORE.get(name, ()), *data]

    def vrx(job: str, *others: str) -> str:
        result = run_forked(command(job, *overrides, *others, small=False), tmp_path, ENVIRONMENT)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    told = vrx("finetune")
    (record_file,) = (tmp_path / "outputs" / "finetune").glob("*/*/record.json")
    run_dir, record = record_file.parent, read_record(record_file)
    losses = [json.loads(line)["loss"] for line in RunDir(run_dir).train_log.read_text().splitlines()]
    assert len(losses) == 4
    assert losses[3] < losses[2] < min(losses[:2])  # all of the same samples; the first step's learning rate is 0
    tensors = load_file(RunDir(run_dir).adapter / "adapter_model.safetensors")
    assert all(tensor.any() for name, tensor in tensors.items() if "lora_B" in name)  # starts at 0 and has moved
    tuned = {name.partition(".layers.")[2].partition(".")[0] for name in tensors if "lora_" in name}
    assert tuned == {str(layer) for layer in record.layers or ()} and len(tuned) == 3
    assert len(RunDir(run_dir).predictions("gqa").read_text().splitlines()) >= 3
    source = f"job.run={run_dir}"
    told += vrx("score", source, "score.benchmarks=[gqa]", "score.samples_per_benchmark=3")
    vrx("revert", source, "revert.layers=[4]")
    vrx("prune", source, "prune.layers=[1,4]")
    (pruned,) = (tmp_path / "outputs" / "prune").glob("*/*/pruned")
    config = json.loads((pruned / "config.json").read_text())
    assert config["text_config"]["num_hidden_layers"] == 6
    told += vrx("check", "check.gpu=A100")
    assert "BAD" not in told
    assert "conversations: 6 encoded" in told
    assert "trainable" in told
    if name == "qwen3_5":
        assert record.layer_kinds == ["linear_attention"] * 3
        assert json.loads(RunDir(run_dir).layers.read_text())["kinds"] == record.layer_kinds
        assert "chooses none of 2 layers of full_attention" in told
        assert "layers without attention, which have no attention score: 0 to 2, 4 to 6" in told
        assert "6 of linear_attention, 2 of full_attention" in told
    require_same_elsewhere(name, composed(overrides).model, run_dir, pruned.parent, tmp_path)


def require_same_elsewhere(name: str, model: ModelConfig, run_dir: Path, cut: Path, folder: Path) -> None:
    """Ask the exports of a tuned run, of its adapter alone and of a pruned run outside vrx, too."""
    if name in WITH_VIDEOS and not plain_transformers.TORCHVISION:
        pytest.skip("all jobs ran; to ask exports outside vrx, let VRX_TORCHVISION name a folder with torchvision")
    base = folder / "base"
    base.mkdir()
    export_model(model, None, base, dtype=torch.float32, shard_bytes=2**22)
    tuned = asked_elsewhere.export(model, run_dir, folder / "tuned", PHOTOGRAPHS)
    adapter_alone = asked_elsewhere.adapter_of(tuned, model, run_dir, base)
    pruned = asked_elsewhere.export(model, cut, folder / "pruned", PHOTOGRAPHS)
    asked_elsewhere.require_same_elsewhere([tuned, adapter_alone, pruned], PHOTOGRAPHS, folder)
