"""Decoding and processing images ahead of the model, in worker processes, so that a GPU does not wait for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vrx.config.errors import BadImage
from vrx.data.images.processing import Pixels, open_rgb
from vrx.evaluation.families import Sample

Loaded = Tensor | BadImage | None


class _Images(Dataset[Loaded]):
    """Pixel values by position. An error is a value here, so that it reads the same with and without workers."""

    def __init__(self, samples: Sequence[Sample], image_processor: Pixels) -> None:
        self.samples, self.image_processor = samples, image_processor

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Loaded:
        try:
            return load_image(self.samples[position], self.image_processor)
        except BadImage as error:
            return error


def load_image(sample: Sample, image_processor: Pixels) -> Tensor | None:
    """Pixel values of a sample's image, (3, H, W) float32, or None without one; `BadImage` names the sample."""
    if sample.image is None:
        return None
    try:
        return image_processor(open_rgb(sample.image))
    except BadImage as error:
        raise BadImage(f"sample {sample.answer.id}: image {error}") from None


def load_images(
    samples: Sequence[Sample], image_processor: Pixels, *, num_workers: int, num_ahead: int
) -> Iterator[Tensor | None]:
    """Pixel values of all samples in their order, as `load_image` gives them.

    num_workers: processes that load about `num_ahead` images before they are needed; with 0, images are loaded in this
    process when they are needed. A bad image is refused when it is its turn, not before.
    """
    if num_workers == 0 or not any(sample.image for sample in samples):
        for sample in samples:
            yield load_image(sample, image_processor)
        return
    loader = DataLoader(
        _Images(samples, image_processor),
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=max(2, -(-num_ahead // num_workers)),
    )
    for image in loader:
        if isinstance(image, BadImage):
            raise image
        yield image
