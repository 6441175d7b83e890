"""Log-likelihoods of what follows in texts, with or without pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, PreTrainedModel

from vrx.data.batch import MicroBatch
from vrx.data.instructions.encoding import IGNORE
from vrx.models.lvlm import answers_after_prefix, forward_inputs

HEAD_POSITIONS = 512  # positions that the language head computes at a time


@torch.inference_mode()
def negative_log_likelihood(model: PreTrainedModel, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """The sum of -ln p over labelled tokens of each sample, in fp64 nats, and their number, both (batch,) on the CPU.

    model: an LVLM or a plain backbone; its language head runs at counted positions only. batch: as for
    `activation_scores`, with `labels` (batch, length), IGNORE for tokens that are not counted.
    """
    labels = batch.labels[:, 1:].to(model.device)
    counted = labels != IGNORE
    token_losses = torch.zeros(labels.shape, dtype=torch.float64, device=model.device)
    if "get_image_features" in dir(model) and not isinstance(model, LlavaForConditionalGeneration):
        places = counted.any(0).nonzero().squeeze(1)  # the model's own head, which may cap its output
        inputs = forward_inputs(model, batch)
        inputs |= answers_after_prefix(model, inputs, batch.labels.to(model.device))
        logits = model(**inputs, use_cache=False, logits_to_keep=places).logits
        of_places = counted[:, places]
        losses = [nn.functional.cross_entropy(logits[of_places].float(), labels[counted], reduction="none").double()]
        token_losses[counted] = torch.cat(losses)
        return token_losses.sum(1).cpu(), counted.sum(1).cpu()
    hidden = model.base_model(**forward_inputs(model, batch), use_cache=False).last_hidden_state[:, :-1]
    losses = [
        nn.functional.cross_entropy(model.lm_head(states).float(), targets, reduction="none").double()
        for states, targets in zip(
            hidden[counted].split(HEAD_POSITIONS), labels[counted].split(HEAD_POSITIONS), strict=True
        )
    ]
    token_losses[counted] = torch.cat(losses)
    return token_losses.sum(1).cpu(), counted.sum(1).cpu()
