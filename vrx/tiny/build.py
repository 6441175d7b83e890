"""Build the three foundations of the embedded LVLM: `python -m vrx.tiny.build` (about two hours on two CPU cores).

The stages are those of a real LVLM: (1) a tokenizer and a backbone pre-trained on the world's text alone; (2) a vision
tower; (3) the projector, trained while everything else is frozen. What `vrx` runs by default comes after: tuning.
Each stage is seeded, writes its part of `weights/` at its end, and is skipped if that part exists.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from transformers import (
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from vrx.tiny import layer_report
from vrx.tiny.backbone import build_backbone, train
from vrx.tiny.scenes import COLOURS, PATCH, PATCHES, SIZE, THINGS, Scene, draw, patch_cells, sample
from vrx.tiny.text import build_tokenizer, word_encoder

WEIGHTS = Path(__file__).parent / "weights"


def build_tower(folder: Path, *, steps: int = 1200, batch_size: int = 64) -> None:
    """Train a SigLIP-type tower to predict, at every patch, where it lies and the colour and kind of what it shows."""
    torch.manual_seed(1)
    rng = random.Random(2)
    processor = SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE}, resample=3)
    config = SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=PATCH,
        vision_use_head=False,
        dtype="float32",
    )
    tower = SiglipVisionModel(config)
    heads = nn.ModuleList(nn.Linear(64, size) for size in (PATCHES**2, len(COLOURS) + 1, len(THINGS) + 1))
    places = torch.arange(PATCHES**2).repeat(batch_size)

    def step(number: int) -> torch.Tensor:
        scenes = [sample(rng) for _ in range(batch_size)]
        images = [draw(scene, seed=rng.getrandbits(32)) for scene in scenes]
        states = tower(pixel_values=processor(images, return_tensors="pt")["pixel_values"]).last_hidden_state
        targets = (places, *patch_targets(scenes))
        return sum(  # type: ignore[return-value]
            nn.functional.cross_entropy(head(states).flatten(0, 1), target)
            for head, target in zip(heads, targets, strict=True)
        )

    train([*tower.parameters(), *heads.parameters()], step, steps=steps, lr=1e-3, name="vision tower")
    processor.save_pretrained(folder)
    tower.save_pretrained(folder)


def patch_targets(scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour and kind of the thing in each patch's cell, 0 for none; each of shape (scenes x patches)."""
    colour_names, cells = tuple(COLOURS), patch_cells()
    things = [scene[cell] for scene in scenes for cell in cells]
    colours = torch.tensor([colour_names.index(thing.colour) + 1 if thing else 0 for thing in things])
    return colours, torch.tensor([THINGS.index(thing.kind) + 1 if thing else 0 for thing in things])


def build_projector(folder: Path) -> None:
    """Train the projector on captions by `vrx pretrain`, with its settings for model=tiny."""
    with tempfile.TemporaryDirectory() as output_root:
        command = [sys.executable, "-m", "vrx.main", "pretrain", "model=tiny", "engine.name=torch"]
        subprocess.run([*command, f"runtime.output_root={output_root}", "wandb.mode=disabled"], check=True)
        (made,) = Path(output_root).glob("pretrain/tiny/*/projector/projector.safetensors")
        folder.mkdir()
        shutil.copy(made, folder)


def main() -> None:
    """Build the parts that are missing in `weights/`, or report on the layers of the backbone that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="measure what each layer of the backbone does")
    arguments = parser.parse_args()
    if not (WEIGHTS / "tokenizer.json").is_file():
        build_tokenizer(WEIGHTS)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(WEIGHTS)
    if arguments.report:
        backbone = LlamaForCausalLM.from_pretrained(WEIGHTS / "backbone")
        print(layer_report.measure(backbone, word_encoder(tokenizer)))
        return
    if not (WEIGHTS / "backbone").is_dir():
        build_backbone(WEIGHTS / "backbone", tokenizer)
    if not (WEIGHTS / "vision_tower").is_dir():
        build_tower(WEIGHTS / "vision_tower")
    if not (WEIGHTS / "projector").is_dir():
        build_projector(WEIGHTS / "projector")


if __name__ == "__main__":
    main()
