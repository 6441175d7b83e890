"""Models, samples and batches of the tiny checkpoints in `family_checkpoints`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.family_checkpoints import FAMILIES, build
from support.family_table import DEPTH
from torch import Tensor

from vrx.config.schema import EngineConfig, LoraConfig, ModelConfig
from vrx.data.batch import MicroBatch, TrainingSample, collate
from vrx.data.conversations.chat_dataset import ChatDataset
from vrx.data.conversations.chat_encoding import ChatEncoder
from vrx.data.conversations.processors import forward_keys, load_processor
from vrx.models import lora, native
from vrx.training.native_loss import NativeLvlmWithLoss

LAYERS = (1, 5)
SIZES = ((150, 75), (112, 112), (60, 140))  # width and height of the pictures of samples
QUESTIONS = ("what is in the picture?", "describe the image in detail please .", "is it a cat?")
ANSWERS = ("a red square on a blue field", "a cat", "yellow dots with a blue square")


def slow_families(*, fast: Sequence[str]) -> list[Any]:
    """Every family as a parameter of a test: a few in the fast suite, the others in the slow one."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


class TinyFamily:
    """A family's checkpoint on disk, its processor, and its model in memory, which tests copy."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = build(name, folder)
        self.config = ModelConfig(
            name=name, architecture=name, num_layers=DEPTH, lvlm=str(folder), template="chat", max_length=4096
        )
        self.row = native.architecture_of(self.config)
        self.encoder = ChatEncoder(load_processor(self.config), forward_keys=forward_keys(self.config))
        self.loaded: Any = native.load_native(self.config)

    def model(self) -> Any:
        """A copy of the model."""
        return copy.deepcopy(self.loaded)

    def sample(self, number: int, *, with_picture: bool = True) -> TrainingSample:
        """One of three conversations, with a picture of a size of its own."""
        pictures = [picture(number)] if with_picture else []
        return self.encoder.encode([question(number, len(pictures)), answer(number)], pictures)

    def blank(self) -> TrainingSample:
        """What joins a batch of texts under ZeRO-3."""
        return ChatDataset([], self.encoder, on_bad_image="error").blank()

    def prompt(self, number: int) -> TrainingSample:
        """The question of one of the conversations."""
        return self.encoder.prompt([question(number, 1)], [picture(number)])

    def collate(self, samples: Sequence[TrainingSample], *, packed: bool = False, side: Any = "right") -> MicroBatch:
        return collate(samples, pad_token_id=0, packed=packed, side=side)

    def tuned(self, *, layers: Sequence[int] = LAYERS, packed: bool = False, connector: bool = True) -> Any:
        """The model with its loss and adapters that have moved away from their start."""
        model = self.model()
        config = LoraConfig(r=4, alpha=8, dropout=0.0)
        lora.apply_lora(model, layers, config, beside=self.row.connector if connector else ())
        switches = EngineConfig(name="torch", packed=packed, supervised_head=True)
        module = NativeLvlmWithLoss(model, self.row, switches)
        move(lora.trainable_parameters(module))
        return module.eval()


def move(parameters: dict[str, Any]) -> None:
    """Move trained parameters away from where they start."""
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters.values():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def gradients(module: Any, batches: Sequence[MicroBatch]) -> tuple[float, dict[str, Tensor]]:
    """The sum of the losses of batches, and its gradients by name."""
    trainable = lora.trainable_parameters(module)
    loss = sum(module(**batch.model_inputs()) for batch in batches)
    assert isinstance(loss, Tensor)
    found = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
    return loss.item(), dict(zip(trainable, found, strict=True))


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def largest(tensors: dict[str, Tensor]) -> float:
    return max(float(tensor.abs().max()) for tensor in tensors.values())


@cache
def picture(number: int) -> Image.Image:
    width, height = SIZES[number]
    return Image.fromarray(np.random.RandomState(number).randint(0, 255, (height, width, 3), dtype=np.uint8))


def question(number: int, num_pictures: int) -> dict[str, Any]:
    parts: list[dict[str, str]] = [{"type": "image"}] * num_pictures
    return {"role": "user", "content": [*parts, {"type": "text", "text": QUESTIONS[number]}]}


def answer(number: int) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": ANSWERS[number]}]}
