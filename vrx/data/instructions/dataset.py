"""Instruction data and captions as training samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vrx.config.paths import inside
from vrx.config.schema import ModelConfig
from vrx.data.batch import TrainingSample
from vrx.data.images.processing import Pixels, open_rgb
from vrx.data.instructions.encoding import IGNORE, expand_images, tokenize, tokenize_caption
from vrx.data.instructions.instruction_dataset import InstructionRow
from vrx.data.sample_dataset import SampleDataset
from vrx.data.tokenizers import IMAGE_TOKEN

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


class TrainingDataset(SampleDataset[InstructionRow]):
    """Samples by row number; bad images follow `on_bad_image`.

    section: of the configuration that names the data. is_plain: rows are captions without a conversation template.
    """

    def __init__(
        self,
        rows: datasets.Dataset | Sequence[InstructionRow],
        config: ModelConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        image_token_id: int,
        image_folder: Path | None,
        on_bad_image: str,
        section: str = "instructions",
        is_plain: bool = False,
    ) -> None:
        super().__init__(rows, on_bad_image=on_bad_image, section=section)
        self.config, self.tokenizer, self.image_token_id = config, tokenizer, image_token_id
        self.image_folder, self.is_plain = image_folder, is_plain
        self.pixels = Pixels(config)

    def row_id(self, row: InstructionRow) -> str:
        return row["id"]

    def sample(self, row: InstructionRow, record: str) -> TrainingSample:
        image = open_rgb(inside(self.image_folder, row["image"])) if row["image"] else None  # type: ignore[arg-type]
        sample = self.encode(row["conversations"], has_image=image is not None, record=record)
        has_image_tokens = self.image_token_id in sample.input_ids  # a record may name an image without a tag
        if image is not None and has_image_tokens and not sample.cut_images:
            sample.pixels = self.pixels(image)
        return sample

    def sample_without_pictures(self, row: InstructionRow) -> TrainingSample:
        return self.encode(row["conversations"], has_image=False)

    def encode(self, conversations: str, *, has_image: bool, record: str = "") -> TrainingSample:
        """Ids and labels of conversations in JSON, without pixels; `record` names it in messages.

        A sample whose image is cut by `model.max_length` ends before the image. The official code keeps a part of the
        image's features, but no label follows them, so loss and gradient are the same.
        """
        turns = json.loads(conversations)
        length = self.config.max_length
        if self.is_plain:
            encoded = tokenize_caption(turns, self.tokenizer, has_image=has_image)
        else:
            encoded = tokenize(turns, self.tokenizer, self.config.template, has_image=has_image, max_length=length)
        ids, labels = expand_images(
            encoded.input_ids,
            encoded.labels,
            image_token_id=self.image_token_id,
            num_image_tokens=self.config.num_image_tokens,
            max_length=length,
        )
        num_image_positions = encoded.input_ids.count(IMAGE_TOKEN) * self.config.num_image_tokens
        is_cut = has_image and ids.count(self.image_token_id) < num_image_positions
        end = ids.index(self.image_token_id) if is_cut and self.image_token_id in ids else len(ids)
        sample = TrainingSample(ids[:end], labels[:end])
        if is_cut:
            sample.cut_images = [f"{record}: model.max_length={length}"]
        if all(label == IGNORE for label in sample.labels[1:]):  # the first token is predicted from nothing
            counts = "{} vs. {}".format(*encoded.mismatch) if encoded.mismatch else None
            reason = f"tokenization mismatch, {counts} tokens" if counts else "no answer within model.max_length"
            sample.masked_samples = [f"{record}: every label is masked ({reason})"]
        return sample
