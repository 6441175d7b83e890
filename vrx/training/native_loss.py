"""An LVLM that is one checkpoint of transformers, with its loss: its whole forward pass runs, never a part by hand.

Calling the decoder by hand would lose positions of several axes, features added to its first layers and masks that
depend on the picture, all without an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from vrx.config.errors import UserError
from vrx.config.schema import EngineConfig
from vrx.data.instructions.encoding import IGNORE
from vrx.models.architectures import Architecture
from vrx.models.lvlm import answers_after_prefix
from vrx.training import packing

NEEDED_WITH_PICTURES = ("mm_token_type_ids", "token_type_ids", "image_grid_thw")  # of a forward pass


class NativeLvlmWithLoss(nn.Module):
    """An LVLM with its loss, which takes what the model's own processor gives.

    What a batch without pictures does not run, such as the connector, gets a gradient of exactly 0. Under ZeRO-3, where
    the ranks run the same modules, no batch comes without a picture (`vrx.data.dataloader.with_blank`).

    The switches of `EngineConfig` change the cost, not the result: `packed` takes rows without padding, by the row's
    `packing`; `supervised_head` runs the language head only where there are labels.
    """

    def __init__(
        self,
        lvlm: PreTrainedModel,
        row: Architecture,
        switches: EngineConfig | None = None,
    ) -> None:
        super().__init__()
        self.lvlm, self.row = lvlm, row
        self.switches = switches or EngineConfig()
        parameters = inspect.signature(lvlm.forward).parameters
        self.needed = [name for name in NEEDED_WITH_PICTURES if name in parameters]
        if self.switches.packed and row.packing == "plain":
            packing.use(lvlm)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        sample_lengths: Sequence[int] | None = None,
        num_pictures: Sequence[int] | None = None,
        **tensors: Tensor,
    ) -> Tensor:
        """Sum of the negative log-likelihoods of the supervised tokens, fp32 scalar.

        input_ids, labels: (batch, length). Samples padded on the right come with `attention_mask`, (batch, length);
        packed samples, one row without padding, with `position_ids`, (1, length), and the samples' lengths. tensors:
        what the processor gives besides, as `vrx.data.joining` puts it together; num_pictures: of each sample.
        """
        self._require_inputs(tensors)
        tensors |= answers_after_prefix(self.lvlm, tensors, labels)
        layout: dict[str, Any] = {"attention_mask": attention_mask}
        if sample_lengths is not None:
            assert position_ids is not None
            positions = packed_positions(self.lvlm, input_ids, position_ids, sample_lengths, tensors=tensors)
            layout = {"position_ids": positions}
            if self.row.packing == "plain":
                layout["sample_lengths"] = sample_lengths
        floating = {name: tensor.to(self.lvlm.dtype) for name, tensor in tensors.items() if tensor.is_floating_point()}
        targets = labels[:, 1:]
        places = (targets != IGNORE).any(0).nonzero().squeeze(1)
        if not self.switches.supervised_head:
            places = torch.arange(targets.shape[1], device=targets.device)
        forget_positions(self.lvlm)
        logits = self.lvlm(
            input_ids=input_ids, **{**tensors, **floating}, **layout, use_cache=False, logits_to_keep=places
        ).logits
        loss = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets[:, places].flatten(), ignore_index=IGNORE, reduction="sum"
        )
        return loss if "pixel_values" in tensors else loss + self._nothing()

    def _require_inputs(self, tensors: dict[str, Tensor]) -> None:
        """Refuse pictures without what else the model takes with them: it would compute other numbers in silence."""
        absent = [name for name in self.needed if name not in tensors]
        if "pixel_values" in tensors and absent:
            raise UserError(f"{type(self.lvlm).__name__}: pictures come without {', '.join(absent)}, which it needs")

    def _nothing(self) -> Tensor:
        """0, which depends on all trained parameters: a text may run neither the connector nor layers of pictures."""
        trained = [parameter for parameter in self.lvlm.parameters() if parameter.requires_grad]
        return 0.0 * sum((parameter.float().sum() for parameter in trained), start=torch.zeros((), device=self.device))

    @property
    def device(self) -> torch.device:
        return self.lvlm.device


def packed_positions(
    lvlm: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor,
    sample_lengths: Sequence[int],
    *,
    tensors: dict[str, Tensor],
) -> Tensor:
    """Positions of a packed row, (1, length), or for a model with positions of three axes (4, 1, length).

    The first of the four are the positions in the text, from which transformers makes its masks; the others are those
    that each sample has by itself.
    """
    core: Any = lvlm.base_model
    if not hasattr(core, "get_rope_index"):
        return position_ids
    if "mm_token_type_ids" not in tensors or "image_grid_thw" not in tensors:  # no pictures: all axes are the text's
        return position_ids.expand(4, 1, -1)

    def rows(packed: Tensor) -> Tensor:
        return pad_sequence(list(packed[0].split(list(sample_lengths))), batch_first=True)

    mask = rows(torch.ones_like(input_ids))
    axes, _ = core.get_rope_index(
        rows(input_ids),
        mm_token_type_ids=rows(tensors["mm_token_type_ids"]),
        image_grid_thw=tensors["image_grid_thw"],
        attention_mask=mask,
    )
    return torch.cat([position_ids[None], axes[:, mask.bool()][:, None].to(position_ids.dtype)])


def forget_positions(lvlm: PreTrainedModel) -> None:
    """Forget what a model with positions of three axes keeps of the batch before."""
    core: Any = lvlm.base_model
    if hasattr(core, "rope_deltas"):
        core.rope_deltas = None
