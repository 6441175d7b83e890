"""Activation checkpointing saves memory by mode, and the lightest mode that fits is chosen."""

from __future__ import annotations

import torch

from vrx.data.image_processing import Pixels
from vrx.models import loading, lora
from vrx.training import activation_checkpointing, loss


def test_the_probe_steps_down_to_what_fits(make_run):
    run = make_run("engine.name=torch")
    lvlm = loading.load(run.model)
    lora.apply_lora(lvlm, range(32), run.lora)
    module = loss.LvlmWithLoss(lvlm, Pixels(run.model).blank()).train()
    batch = {"input_ids": torch.randint(50, 100, (4, 40)), "labels": torch.randint(50, 100, (4, 40)), "pixels": None}

    def forward():
        module(**batch, attention_mask=torch.ones(4, 40))

    kept = {}
    for way in activation_checkpointing.Mode:
        activation_checkpointing.set_mode(lvlm, way)
        kept[way] = activation_checkpointing.saved_bytes(lvlm, forward)
    assert kept["none"] > 1.5 * kept["half"] > 2 * kept["full"] > 0
    for way in activation_checkpointing.Mode:
        assert activation_checkpointing.set_lightest_mode(lvlm, forward, budget=1.05 * kept[way]) == way
    assert activation_checkpointing.set_lightest_mode(lvlm, forward, budget=0) == "full"


def test_what_frozen_linears_are_given_is_not_kept(make_run):
    """Their weights have no gradients: of a layer without adapter less is kept than of one with."""
    run = make_run()

    def kept(layers):
        lvlm = loading.load(run.model)
        lora.apply_lora(lvlm, layers, run.lora)
        module = loss.LvlmWithLoss(lvlm, Pixels(run.model).blank()).train()
        ids = torch.randint(50, 100, (4, 40))
        return activation_checkpointing.saved_bytes(lvlm, lambda: module(ids, ids, torch.ones(4, 40)))

    assert kept([0]) < 0.6 * kept(range(32))
