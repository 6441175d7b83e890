"""Whether a checkpoint's processor and its model agree about the number of tokens of a picture, before training."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.data.batch import TrainingSample
from vrx.training.stage import TrainingData


def require_picture_tokens(run: RunConfig, lvlm: PreTrainedModel, data: TrainingData) -> None:
    """Refuse a model whose first picture has another number of tokens in the ids than features in the model.

    Models assembled from parts are not looked at, nor are weights that ZeRO-3 has spread over the ranks.
    """
    with_picture = (data.words > 0).nonzero()[0]
    is_sharded = any(hasattr(parameter, "ds_id") for parameter in lvlm.parameters())
    if run.model.is_assembled or is_sharded or not len(with_picture):
        return
    number = data.plan.rows[int(with_picture[0])]
    sample = data.dataset[number]
    counts = token_counts(lvlm, sample) if sample.num_pictures else None
    if counts is not None and counts[0] != counts[1]:
        record = data.dataset.row_id(data.dataset.rows[number]) or number
        source = run.instructions.path or "instructions.mix"
        raise UserError(
            f"{source}: record {record}: images: {counts[0]} tokens of pictures in the ids, but {counts[1]} features "
            f"in the model; the processor's files of model.lvlm={run.model.lvlm} do not fit its config.json"
        )


@torch.inference_mode()
def token_counts(lvlm: PreTrainedModel, sample: TrainingSample) -> tuple[int, int] | None:
    """Tokens of a sample's pictures in its ids, and their features in the model; None where no method gives these."""
    model: Any = lvlm
    token_id = getattr(lvlm.config, "image_token_id", None)
    if token_id is None or not hasattr(model, "get_image_features"):
        return None
    keys = inspect.signature(model.get_image_features).parameters
    tensors = {
        name: (tensor.to(lvlm.dtype) if tensor.is_floating_point() else tensor).to(lvlm.device)
        for name, tensor in sample.tensors.items()
        if name in keys
    }
    output = model.get_image_features(**tensors)
    features = output if isinstance(output, Tensor | list | tuple) else output.pooler_output
    parts = [features] if isinstance(features, Tensor) else list(features)
    width = lvlm.config.get_text_config().hidden_size
    return sample.input_ids.count(token_id), sum(part.numel() for part in parts) // width
