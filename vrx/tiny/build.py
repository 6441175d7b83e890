"""Build the three foundations of the embedded LVLM: `python -m vrx.tiny.build` (about 45 minutes on two CPU cores).

The stages are those of a real LVLM: (1) a tokenizer and a backbone pre-trained on the world's text alone; (2) a vision
tower; (3) the projector, trained while everything else is frozen. What `vrx` runs by default comes after: tuning.
Each stage is seeded, writes its part of `weights/` at its end, and is skipped if that part exists.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn
from transformers import (
    LlamaConfig,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from vrx.config.paths import PACKAGE
from vrx.config.schema import ModelConfig
from vrx.data.batch import TrainingSample, collate
from vrx.data.encoding import expand_images, tokenize
from vrx.data.image_processing import Pixels
from vrx.models import loading
from vrx.models.lvlm import projector as find_projector
from vrx.tiny import questions
from vrx.tiny.backbone import build_backbone, train
from vrx.tiny.scenes import CELL, COLOURS, GRID, SIZE, THINGS, draw, sample
from vrx.tiny.text import build_tokenizer

WEIGHTS = Path(__file__).parent / "weights"


def build_tower(folder: Path, *, steps: int = 1200, batch_size: int = 64) -> None:
    """Train a SigLIP-type tower to predict at every patch its cell and the colour and kind of the thing in it."""
    torch.manual_seed(1)
    rng = random.Random(2)
    processor = SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE}, resample=3)
    config = SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=CELL,
        vision_use_head=False,
        dtype="float32",
    )
    tower = SiglipVisionModel(config)
    cells, colours, kinds = nn.Linear(64, GRID**2), nn.Linear(64, len(COLOURS) + 1), nn.Linear(64, len(THINGS) + 1)
    colour_names, cell = tuple(COLOURS), torch.arange(GRID**2).repeat(batch_size)

    def step(number: int) -> torch.Tensor:
        scenes = [sample(rng) for _ in range(batch_size)]
        images = [draw(scene, seed=rng.getrandbits(32)) for scene in scenes]
        states = tower(pixel_values=processor(images, return_tensors="pt")["pixel_values"]).last_hidden_state
        colour = torch.tensor([[colour_names.index(t.colour) + 1 if t else 0 for t in scene] for scene in scenes])
        kind = torch.tensor([[THINGS.index(t.kind) + 1 if t else 0 for t in scene] for scene in scenes])
        loss = nn.functional.cross_entropy(colours(states).flatten(0, 1), colour.flatten())
        loss = loss + nn.functional.cross_entropy(kinds(states).flatten(0, 1), kind.flatten())
        return loss + nn.functional.cross_entropy(cells(states).flatten(0, 1), cell)

    parameters = [*tower.parameters(), *cells.parameters(), *colours.parameters(), *kinds.parameters()]
    train(parameters, step, steps=steps, lr=1e-3, name="vision tower")
    processor.save_pretrained(folder)
    tower.save_pretrained(folder)


def build_projector(folder: Path, config: ModelConfig, *, steps: int = 400, batch_size: int = 32) -> None:
    """Train the projector on descriptions of pictures with backbone and tower frozen, as in LLaVA's first stage."""
    torch.manual_seed(2)
    rng = random.Random(3)
    hidden = LlamaConfig.from_pretrained(WEIGHTS / "backbone").hidden_size
    fresh = {"linear_1": nn.Linear(64, hidden), "linear_2": nn.Linear(hidden, hidden)}
    folder.mkdir()
    save_file(
        {f"{name}.{key}": tensor for name, layer in fresh.items() for key, tensor in layer.state_dict().items()},
        folder / "projector.safetensors",
    )
    lvlm = loading.load(config)
    tokenizer, pixels = loading.load_model_tokenizer(config), Pixels(config)
    image_id = loading.image_token_id(config, tokenizer)
    projector = find_projector(lvlm).requires_grad_(True)

    def step(number: int) -> torch.Tensor:
        samples = []
        for _ in range(batch_size):
            scene = sample(rng)
            description = questions.description(scene, rng)
            turns = [
                {"from": "human", "value": f"<image>\n{description.text}"},
                {"from": "gpt", "value": description.answer},
            ]
            encoded = tokenize(turns, tokenizer, config.template, has_image=True)
            ids, labels = expand_images(
                encoded.input_ids, encoded.labels, image_token_id=image_id, num_image_tokens=config.num_image_tokens
            )
            image = pixels(draw(scene, seed=rng.getrandbits(32)))
            samples.append(TrainingSample(ids, labels, image))
        batch = collate(samples, pad_token_id=int(tokenizer.pad_token_id))  # type: ignore[arg-type]
        inputs = batch.model_inputs()
        return lvlm(pixel_values=inputs.pop("pixels"), **inputs).loss

    train(projector.parameters(), step, steps=steps, lr=2e-3, name="projector")
    save_file(projector.state_dict(), folder / "projector.safetensors")


def main() -> None:
    """Build the parts that are missing in `weights/`."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not (WEIGHTS / "tokenizer.json").is_file():
        build_tokenizer(WEIGHTS)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(WEIGHTS)
    if not (WEIGHTS / "backbone").is_dir():
        build_backbone(WEIGHTS / "backbone", tokenizer)
    if not (WEIGHTS / "vision_tower").is_dir():
        build_tower(WEIGHTS / "vision_tower")
    if not (WEIGHTS / "projector").is_dir():
        composed = OmegaConf.load(PACKAGE.parent / "conf" / "model" / "tiny.yaml")
        build_projector(WEIGHTS / "projector", ModelConfig(**composed.model))


if __name__ == "__main__":
    main()
