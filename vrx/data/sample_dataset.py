"""Rows as training samples, with what is to happen to samples whose pictures are missing or damaged."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from torch.utils.data import Dataset

from vrx.config.errors import BadImage, UserError
from vrx.data.batch import TrainingSample
from vrx.data.instructions.encoding import IGNORE

MAX_REPLACEMENTS = 100  # bad images in a row with on_bad_image=replace

Row = TypeVar("Row")


class SampleDataset(Dataset[TrainingSample], Generic[Row]):
    """Samples by row number; bad images follow `on_bad_image`.

    section: of the configuration that names the data.
    """

    def __init__(self, rows: Sequence[Row] | Any, *, on_bad_image: str, section: str = "instructions") -> None:
        self.rows, self.on_bad_image, self.section = rows, on_bad_image, section

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TrainingSample:
        """The sample of a row; on_bad_image=replace takes another row for a bad image, error raises `UserError`."""
        bad_images: list[str] = []
        for attempt in range(MAX_REPLACEMENTS):
            row: Row = self.rows[index]
            record = f"record {self.row_id(row) or index}"
            try:
                sample = self.sample(row, record)
            except BadImage as error:
                bad_images.append(f"{record}: image {error}")
                if self.on_bad_image == "error":
                    hint = f"{self.section}.on_bad_image=skip or replace continues without it"
                    raise UserError(f"{bad_images[-1]} ({hint})") from None
                if self.on_bad_image == "skip":
                    return self._masked(row, record, bad_images)
                index = random.Random(f"replace {index} {attempt}").randrange(len(self.rows))
                continue
            sample.bad_images = bad_images
            return sample
        raise UserError(f"{MAX_REPLACEMENTS} bad images in a row, the last: {bad_images[-1]}")

    @abstractmethod
    def row_id(self, row: Row) -> str:
        """The id of a row, empty where it has none."""

    @abstractmethod
    def sample(self, row: Row, record: str) -> TrainingSample:
        """A row with its pictures; `BadImage` for a picture that cannot be read. record: names the row in messages."""

    @abstractmethod
    def sample_without_pictures(self, row: Row) -> TrainingSample:
        """A row whose pictures are left out."""

    def blank(self) -> TrainingSample | None:
        """A sample with a picture, from which nothing is learned; None where the model takes care of texts itself."""
        return None

    def _masked(self, row: Row, record: str, bad_images: list[str]) -> TrainingSample:
        """A sample with every label masked, which keeps its position in the batch."""
        sample = self.sample_without_pictures(row)
        masked = [f"{record}: every label is masked (bad image)"]
        labels = [IGNORE] * len(sample.input_ids)
        return TrainingSample(
            sample.input_ids, labels, bad_images=bad_images, masked_samples=masked, tensors=sample.tensors
        )
