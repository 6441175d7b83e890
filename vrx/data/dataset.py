"""From rows of instruction data to the micro-batches of a step, the same whatever the number of ranks."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from vrx.config.errors import BadImage, UserError
from vrx.config.paths import inside
from vrx.config.schema import ModelConfig
from vrx.data.encoding import IGNORE, expand_images, tokenize
from vrx.data.image_processing import Pixels, open_rgb
from vrx.data.tokenizers import IMAGE_TOKEN

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


Batch = dict[str, Any]


class TrainingDataset(Dataset):
    """Instruction samples as ids, labels and pixels; what is bad about an image is told in `bad`, in `cut` whose image
    `model.max_length` cuts."""

    def __init__(
        self,
        rows: datasets.Dataset,
        config: ModelConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        image_token_id: int,
        image_folder: Path | None,
        on_bad_image: str,
    ) -> None:
        self.rows, self.config, self.tokenizer, self.image_token_id = rows, config, tokenizer, image_token_id
        self.image_folder, self.on_bad_image = image_folder, on_bad_image
        self.pixels = Pixels(config)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        """`input_ids` and `labels` (lists), `pixels` (3, H, W) or None, `bad` and `cut` (lists of complaints)."""
        bad: list[str] = []
        for attempt in range(100):
            row = self.rows[index]
            try:
                image = open_rgb(inside(self.image_folder, row["image"])) if row["image"] else None  # type: ignore[arg-type]
                sample = {**self.encoded(row, image is not None), "bad": bad, "pixels": None}
                if sample["cut"]:
                    sample["cut"] = [f"record {row['id'] or index}: model.max_length={self.config.max_length}"]
                elif image is not None and self.image_token_id in sample["input_ids"]:  # else it has no tag, no place
                    sample["pixels"] = self.pixels(image)
                return sample
            except BadImage as error:
                bad.append(f"record {row['id'] or index}: image {error}")
                if self.on_bad_image == "error":
                    raise UserError(f"{bad[-1]} (instructions.on_bad_image=skip or replace goes on)") from None
                if self.on_bad_image == "skip":
                    return self._silent(row, bad)
                index = random.Random(f"replace {index} {attempt}").randrange(len(self.rows))
        raise UserError(f"100 bad images in a row, the last: {bad[-1]}")

    def _silent(self, row: dict[str, Any], bad: list[str]) -> Batch:
        """A sample that keeps its place in the batch and teaches nothing."""
        ids = self.encoded(row, False)["input_ids"]
        return {"input_ids": ids, "labels": [IGNORE] * len(ids), "pixels": None, "bad": bad, "cut": []}

    def encoded(self, row: dict[str, Any], has_image: bool) -> Batch:
        """Ids and labels. A sample whose image is cut ends before it: what the official code lets follow, a part of
        the image's features, has no label after it, so neither loss nor gradient tells the difference."""
        turns = json.loads(row["conversations"])
        length = self.config.max_length
        encoded = tokenize(turns, self.tokenizer, self.config.template, has_image=has_image, max_length=length)
        ids, labels = expand_images(
            encoded.input_ids,
            encoded.labels,
            image_token_id=self.image_token_id,
            num_image_tokens=self.config.num_image_tokens,
            max_length=length,
            keep_cut_images=True,
        )
        slots = encoded.input_ids.count(IMAGE_TOKEN) * self.config.num_image_tokens
        cut = has_image and ids.count(self.image_token_id) < slots
        end = ids.index(self.image_token_id) if cut and self.image_token_id in ids else len(ids)
        return {"input_ids": ids[:end], "labels": labels[:end], "cut": [True] * cut}
