"""An LVLM with its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from vrx.config.errors import UserError
from vrx.config.schema import EngineConfig
from vrx.data.batch import MicroBatch
from vrx.data.instructions.encoding import IGNORE
from vrx.models.lvlm import projector
from vrx.training import packing

CHUNK = 1024  # supervised positions whose logits are in memory at a time


class LvlmWithLoss(nn.Module):
    """An LVLM with its loss.

    Every rank runs the same modules in the same order, whatever its samples are: a batch without images sends a blank
    image through tower and projector and adds it with factor 0, so its gradient is exactly 0.

    The switches of `EngineConfig` change the cost, not the result: `packed` takes rows without padding,
    `supervised_head` runs the language head only where there are labels, `skip_vision_tower` leaves the tower out of a
    batch without images (not at ZeRO-3, where the ranks share the tower's weights and must all run it).
    """

    def __init__(self, lvlm: PreTrainedModel, blank: Tensor, switches: EngineConfig | None = None) -> None:
        super().__init__()
        self.lvlm: Any = lvlm
        self.blank = blank[None]
        self.switches = switches or EngineConfig()
        self.chunk = None if self.switches.zero_stage == 3 else CHUNK  # ranks would run different numbers of chunks
        if self.switches.packed:
            packing.use(lvlm)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        pixels: Tensor | None = None,
        position_ids: Tensor | None = None,
        sample_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """Sum of the negative log-likelihoods of the supervised tokens, fp32 scalar.

        input_ids, labels: (batch, length). Samples padded on the right come with `attention_mask`, (batch, length);
        packed samples, one row without padding, with `position_ids`, (1, length), and the samples' lengths.
        pixels: (images, 3, H, W).
        """
        core = self.lvlm.model
        embeddings = core.get_input_embeddings()(input_ids)  # (batch, length, hidden)
        features = self._features(pixels, embeddings)
        if pixels is None:
            embeddings = embeddings + 0.0 * features.sum()
        else:
            is_image_token = (input_ids == self.lvlm.config.image_token_id)[..., None]
            embeddings = embeddings.masked_scatter(is_image_token, features)
        layout: dict[str, Any] = {"attention_mask": attention_mask}
        if sample_lengths is not None:
            layout = {"position_ids": position_ids, "sample_lengths": sample_lengths}
        hidden = core.language_model(inputs_embeds=embeddings, use_cache=False, **layout).last_hidden_state
        return self.nll_sum(hidden[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    def _features(self, pixels: Tensor | None, embeddings: Tensor) -> Tensor:
        """Projected image features, (images x tokens, hidden), in the order of the images."""
        if pixels is None and self.switches.skip_vision_tower:
            width = self.lvlm.config.vision_config.hidden_size  # type: ignore[union-attr]
            return projector(self.lvlm)(embeddings.new_zeros(1, width))
        images = (self.blank if pixels is None else pixels).to(embeddings.device, embeddings.dtype)
        features = self._projected(images)
        expected = self.lvlm.config.image_seq_length
        if len(features) != expected * len(images):  # they would shift from sample to sample
            per_image = len(features) / len(images)
            raise UserError(
                f"model.num_image_tokens={expected}: the vision tower yields {per_image:g} features an image"
            )
        return features.to(embeddings.dtype)

    def _projected(self, images: Tensor) -> Tensor:
        """What tower and projector make of images, (images x tokens, hidden)."""
        return torch.cat(list(self.lvlm.model.get_image_features(pixel_values=images).pooler_output))

    def nll_sum(self, states: Tensor, labels: Tensor) -> Tensor:
        """Sum of the negative log-likelihoods, by the language head in chunks where `supervised_head` is on.

        states: (positions, hidden), the last hidden states; labels: (positions,), IGNORE where nothing is predicted.
        """
        if not self.switches.supervised_head:
            return self._nll(states, labels)
        positions = (labels != IGNORE).nonzero().squeeze(1)
        states, labels = states[positions], labels[positions]
        if self.chunk is None or len(positions) <= self.chunk:
            return self._nll(states, labels)
        losses: list[Tensor] = [
            checkpoint(self._nll, *part, use_reentrant=False)
            for part in zip(states.split(self.chunk), labels.split(self.chunk), strict=True)
        ]
        return torch.stack(losses).sum()

    def _nll(self, states: Tensor, labels: Tensor) -> Tensor:
        logits = self.lvlm.lm_head(states).float()
        return nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")


def num_supervised(batch: MicroBatch) -> int:
    """Supervised tokens of a micro-batch: labels that are predicted from the position before."""
    return int((batch.labels[:, 1:] != IGNORE).sum())
