"""Pixel values of image files for a vision tower, as in the official LLaVA and Bunny code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, SiglipImageProcessorPil
from transformers.image_utils import ChannelDimension

from vrx.config.errors import BadImage, UserError
from vrx.config.schema import ModelConfig
from vrx.data.images.deep import as_8_bits
from vrx.data.images.size import PREPROCESSOR, processed_size
from vrx.runs.files import read_json_object
from vrx.runs.hub import resolve_checkpoint

# Pillow's processors, because torchvision's round differently.
PROCESSORS = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil, "dinov2": BitImageProcessorPil}


def open_rgb(path: Path) -> Image.Image:
    """Decode an image as RGB; as in the official code, transparency is dropped, not blended, and EXIF is ignored.

    Grey levels of 16 bits are scaled to 8; the official code takes all above 255 for white.
    """
    try:
        with Image.open(path) as image:
            grey_levels = as_8_bits(image)
            picture = grey_levels if grey_levels is not None else image
            return Image.fromarray(np.asarray(picture.convert("RGB")))  # a fresh image carries no transparency along
    except Exception as error:  # Pillow raises many kinds of errors for broken files
        if isinstance(error, BadImage):
            raise BadImage(f"{path}: {error}") from None
        reason = "no such file" if isinstance(error, FileNotFoundError) else error or type(error).__name__
        raise BadImage(f"{path}: {reason}") from None


def pad_to_square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Centre an image on a square canvas; the odd pixel goes to the right or the bottom."""
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), colour)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


class Pixels:
    """Turns images into pixel values; `size` is (height, width) of the result."""

    def __init__(self, config: ModelConfig) -> None:
        folder = resolve_checkpoint("model.vision_tower", config.vision_tower, weights=False)
        source = f"model.vision_tower={config.vision_tower}: {PREPROCESSOR}"
        if not (folder / PREPROCESSOR).is_file():
            raise UserError(f"model.vision_tower={config.vision_tower}: has no {PREPROCESSOR}")
        settings = read_json_object(folder / PREPROCESSOR)
        self.pad = config.image_aspect_ratio == "pad"
        try:
            self.processor = PROCESSORS[config.image_processor].from_pretrained(folder)
            red, green, blue = (int(255 * mean) for mean in self.processor.image_mean)
            self.colour = (red, green, blue)
            self.size = processed_size(
                self.processor.to_dict(), config.image_processor, is_padded=self.pad, source=source
            )
            sample = self(Image.new("RGB", (2, 2)))
        except UserError:
            raise
        except Exception as error:  # of the processor, which takes any settings
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{source}: cannot be used: {reason}") from None
        if sample.shape != (3, *self.size) or not sample.isfinite().all():
            raise UserError(f"{source}: makes {tuple(sample.shape)} values that are not all finite: {settings}"[:400])

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """(3, height, width) float32."""
        square = pad_to_square(image, self.colour) if self.pad else image
        # said, as a picture of 1 or 3 pixels could be taken for one whose first dimension are the channels
        processed = self.processor(square, return_tensors="pt", input_data_format=ChannelDimension.LAST)
        return processed["pixel_values"][0]

    def blank(self) -> torch.Tensor:
        """Pixel values of zeros, for a sample without an image in a step where the tower must run."""
        return torch.zeros(3, *self.size)
