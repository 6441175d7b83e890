"""Activation checkpointing saves memory by mode, and the lightest mode that fits is chosen."""

from __future__ import annotations

import torch

from vrx.data.images.processing import Pixels
from vrx.models import loading, lora
from vrx.training import activation_checkpointing, loss


def test_the_lightest_mode_that_fits_the_budget_is_set(make_run):
    run = make_run("engine.name=torch")
    lvlm = loading.load(run.model)
    lora.apply_lora(lvlm, range(32), run.lora)
    module = loss.LvlmWithLoss(lvlm, Pixels(run.model).blank()).train()
    torch.manual_seed(0)
    batch = {"input_ids": torch.randint(50, 100, (4, 40)), "labels": torch.randint(50, 100, (4, 40)), "pixels": None}

    def forward():
        module(**batch, attention_mask=torch.ones(4, 40))

    saved = {}
    for mode in activation_checkpointing.Mode:
        activation_checkpointing.set_mode(lvlm, mode)
        saved[mode] = activation_checkpointing.saved_bytes(lvlm, forward)
    assert saved["none"] > 1.5 * saved["half"] > 2 * saved["full"] > 0
    for mode in activation_checkpointing.Mode:
        assert activation_checkpointing.set_lightest_mode(lvlm, forward, budget=1.05 * saved[mode]) == mode
    assert activation_checkpointing.set_lightest_mode(lvlm, forward, budget=0) == "full"


def test_inputs_of_frozen_linears_are_not_saved(make_run):
    """Their weights have no gradients, so a layer without adapter saves less than one with."""
    run = make_run()

    def saved(layers):
        lvlm = loading.load(run.model)
        lora.apply_lora(lvlm, layers, run.lora)
        module = loss.LvlmWithLoss(lvlm, Pixels(run.model).blank()).train()
        ids = torch.randint(50, 100, (4, 40), generator=torch.Generator().manual_seed(0))
        return activation_checkpointing.saved_bytes(lvlm, lambda: module(ids, ids, torch.ones(4, 40)))

    assert saved([0]) < 0.6 * saved(range(32))
