"""What an export needs of memory beside one shard, run by hand because it writes two checkpoints of a gigabyte:

    python tests/support/export_memory.py --folder /tmp/export_memory --shard-gb 0.25

The folder must be new. A made-up LLaVA of 1 GB (random bf16 weights in four shards, LoRA on eight of 32 layers) is
exported in a process of its own. The last line is the peak of its resident memory above that before the export, as a
multiple of a shard.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from safetensors.torch import save_file
from support.official import FAMILIES, model_config
from transformers import LlavaForConditionalGeneration

from vrx.config.schema import LoraConfig, ModelConfig
from vrx.launch.devices import peak_resident_bytes
from vrx.models import loading, lora, lora_checkpoint
from vrx.models.export import export_model
from vrx.runs.run_dir import RunDir

FAMILY = "llava_official"
DEPTH, NUM_SHARDS = 32, 4
SIZES = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": DEPTH, "num_attention_heads": 8}
SIZES |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32000}


def config_of(checkpoint: Path) -> ModelConfig:
    small = model_config(FAMILY, None)
    tokenizer = small.tokenizer or small.backbone
    return dataclasses.replace(small, lvlm=str(checkpoint), tokenizer=tokenizer, num_layers=DEPTH)


def make(folder: Path) -> None:
    """A checkpoint, and the directory of a run with an adapter for it."""
    small = model_config(FAMILY, FAMILIES[FAMILY]["lvlm"])
    config = loading.load(small).config
    config.text_config.update(SIZES)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    config.architectures = ["LlavaForConditionalGeneration"]
    config.save_pretrained(checkpoint)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    names, index = list(shapes), {}
    for number in range(NUM_SHARDS):
        part = names[number * len(names) // NUM_SHARDS : (number + 1) * len(names) // NUM_SHARDS]
        file = f"model-{number + 1:05}-of-{NUM_SHARDS:05}.safetensors"
        tensors = {name: torch.empty(shapes[name], dtype=torch.bfloat16).uniform_(-0.1, 0.1) for name in part}
        save_file(tensors, checkpoint / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    tuned = lora.apply_lora(model, range(0, DEPTH, 4), LoraConfig(r=64, alpha=128, dropout=0.0))
    trained = {name: torch.rand(tensor.shape) * 0.01 for name, tensor in lora.trainable_parameters(tuned).items()}
    lora_checkpoint.save_adapter(tuned, trained, RunDir(folder / "run").adapter)


def measure(folder: Path, shard_gb: float) -> None:
    """Export and print the peak above the memory before."""
    target, shard_bytes = folder / "exported", int(shard_gb * 2**30)
    target.mkdir()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = peak_resident_bytes()
    export_model(
        config_of(folder / "checkpoint"), folder / "run", target, dtype=torch.bfloat16, shard_bytes=shard_bytes
    )
    extra = peak_resident_bytes() - before
    size = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    print(
        f"{size / 1e9:.2f} GB in shards of {shard_bytes / 1e6:.0f} MB: {extra / 1e6:.0f} MB above "
        f"{before / 1e6:.0f} MB, {extra / shard_bytes:.2f} times a shard"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--shard-gb", type=float, default=0.25)
    parser.add_argument("--measure", action="store_true", help="only export what is there")
    options = parser.parse_args()
    if options.measure:
        measure(options.folder, options.shard_gb)
        return
    make(options.folder)
    subprocess.run([sys.executable, __file__, "--measure", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
