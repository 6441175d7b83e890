"""Under ZeRO-3 no rank ever holds all weights, not even while it loads them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.official import GOLDEN, model_config
from transformers import AutoModelForCausalLM, LlamaConfig

HIDDEN, LAYERS = 512, 24
RANK = """
import json, os, re, sys, threading, time
from pathlib import Path
from vrx.models import loading  # before the measurement starts: imports take memory too
from vrx.training.deepspeed_engine import start_deepspeed, zero3_loading
from vrx.config.schema import EngineConfig, ModelConfig, TrainConfig

def private_bytes():  # memory of this process alone, without pages of files
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def watch():
    global peak
    while True:
        peak = max(peak, private_bytes())
        time.sleep(0.002)

config = ModelConfig(**json.loads(sys.argv[1]))
start_deepspeed()
start = peak = private_bytes()
threading.Thread(target=watch, daemon=True).start()
options = TrainConfig(global_batch_size=2, micro_batch_size=1, dtype="float32"), EngineConfig(zero_stage=3)
with zero3_loading(*options):
    lvlm = loading.load(config)
size = 4 * sum(getattr(tensor, "ds_numel", tensor.numel()) for tensor in lvlm.parameters())
result = {"peak_bytes": peak - start, "weight_bytes": size}
Path(f"{sys.argv[2]}{os.environ['RANK']}.json").write_text(json.dumps(result))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_of_two_ranks_loads_half_of_the_weights(tmp_path: Path):
    shape = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        vocab_size=1000,
    )
    AutoModelForCausalLM.from_config(shape).bfloat16().save_pretrained(tmp_path / "backbone")
    (tmp_path / "projector").mkdir()
    projector = {"0.weight": (HIDDEN, 48), "0.bias": (HIDDEN,), "2.weight": (HIDDEN, HIDDEN), "2.bias": (HIDDEN,)}
    tensors = {f"model.mm_projector.{name}": torch.zeros(size) for name, size in projector.items()}
    torch.save(tensors, tmp_path / "projector" / "mm_projector.bin")
    config = dataclasses.replace(
        model_config("llava_official", None),
        backbone=str(tmp_path / "backbone"),
        projector=str(tmp_path / "projector"),
        tokenizer=str(GOLDEN / "tokenizers" / "vicuna_like"),
        num_layers=LAYERS,
    )
    (tmp_path / "rank.py").write_text(RANK)
    command = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "MALLOC_MMAP_THRESHOLD_": "65536",  # returns freed memory to the system at once, so it is not counted
    }
    result = subprocess.run(
        [*command, str(tmp_path / "rank.py"), json.dumps(dataclasses.asdict(config)), str(tmp_path / "rank")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    ranks = [json.loads(path.read_text()) for path in tmp_path.glob("rank?.json")]
    assert len(ranks) == 2, result.stderr
    for rank in ranks:
        assert 0.4 * rank["weight_bytes"] < rank["peak_bytes"] < 0.7 * rank["weight_bytes"], ranks
