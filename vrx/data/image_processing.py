"""Pixel values of image files for a vision tower, as in the official LLaVA and Bunny code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, SiglipImageProcessorPil

from vrx.config.errors import BadImage
from vrx.config.schema import ModelConfig
from vrx.data.image_size import PREPROCESSOR, processed_size
from vrx.runs.hub import resolve_checkpoint

# Pillow's processors, because torchvision's round differently.
PROCESSORS = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil, "dinov2": BitImageProcessorPil}


def open_rgb(path: Path) -> Image.Image:
    """Decode an image as RGB; as in the official code, transparency is dropped, not blended, and EXIF is ignored."""
    try:
        with Image.open(path) as image:
            return Image.fromarray(np.asarray(image.convert("RGB")))  # a fresh image carries no transparency along
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error}") from None


def pad_to_square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Centre an image on a square canvas; the odd pixel goes to the right or the bottom."""
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), colour)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


class Pixels:
    """Turns images into pixel values; `size` is (height, width) of the result."""

    def __init__(self, config: ModelConfig) -> None:
        self.processor = PROCESSORS[config.image_processor].from_pretrained(
            resolve_checkpoint("model.vision_tower", config.vision_tower, weights=False)
        )
        self.pad = config.image_aspect_ratio == "pad"
        red, green, blue = (int(255 * mean) for mean in self.processor.image_mean)
        self.colour = (red, green, blue)
        source = f"model.vision_tower={config.vision_tower}: {PREPROCESSOR}"
        self.size = processed_size(self.processor.to_dict(), config.image_processor, is_padded=self.pad, source=source)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """(3, height, width) float32."""
        square = pad_to_square(image, self.colour) if self.pad else image
        return self.processor(square, return_tensors="pt")["pixel_values"][0]

    def blank(self) -> torch.Tensor:
        """Pixel values of zeros, for a sample without an image in a step where the tower must run."""
        return torch.zeros(3, *self.size)
