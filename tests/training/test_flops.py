"""The FLOPs formula agrees with torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vrx.data.images.processing import Pixels
from vrx.models import loading
from vrx.training.flops import Workload
from vrx.training.setup import add_adapters


def test_the_formula_agrees_with_the_counter_of_torch(make_run):
    """Forward and backward of all decoder layers and the head, against torch's own counter."""
    run = make_run("lora.dropout=0", "engine.name=torch")
    prepared = add_adapters(loading.load(run.model), range(32), run, blank=Pixels(run.model).blank())
    height, width = prepared.module.blank.shape[-2:]
    torch.manual_seed(0)
    ids = torch.randint(50, 100, (3, 40))
    ids[:, 3:12] = prepared.lvlm.config.image_token_id
    batch = {"input_ids": ids, "labels": ids, "pixels": torch.randn(3, 3, height, width)}
    batch |= {"attention_mask": torch.ones(3, 40)}
    with FlopCounterMode(display=False) as counter:
        prepared.module(**batch).backward()
    load = Workload(tokens=120, squared_lengths=3 * 40**2, supervised_tokens=3 * 39, images=3)
    assert prepared.flops_counter(num_layers=32, lora=run.lora)(load) == pytest.approx(
        counter.get_total_flops(), rel=0.1
    )
