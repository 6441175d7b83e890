"""The loss of an LVLM is that of transformers, whatever the padding, the images or the chunks of the head."""

from __future__ import annotations

import pytest
import torch
from support.training import training_dataset

from vrx.config.schema import EngineConfig
from vrx.data.batch import collate
from vrx.data.images.processing import Pixels
from vrx.models import loading
from vrx.models.lvlm import projector
from vrx.training.loss import LvlmWithLoss, num_supervised


@pytest.fixture
def samples(make_run, world):
    """The training samples of the small world."""
    return training_dataset(make_run(), world / "data")


def test_the_loss_is_that_of_transformers(make_run, samples):
    run = make_run()
    lvlm = loading.load(run.model)
    batch = collate([samples[index] for index in range(6)], pad_token_id=samples.tokenizer.pad_token_id)
    with torch.inference_mode():
        ours = LvlmWithLoss(lvlm, Pixels(run.model).blank())(**batch.model_inputs())
        inputs = batch.model_inputs()
        theirs = lvlm(pixel_values=inputs.pop("pixels"), **inputs).loss
    assert ours.item() / num_supervised(batch) == pytest.approx(theirs.item(), abs=1e-5)


def test_a_batch_without_images_gives_the_projector_a_gradient_of_exactly_zero(make_run, samples):
    run = make_run()
    lvlm = loading.load(run.model)
    projector(lvlm).requires_grad_(True)
    row = next(index for index in range(len(samples)) if samples[index].pixels is None)
    batch = collate([samples[row]], pad_token_id=samples.tokenizer.pad_token_id)
    loss = LvlmWithLoss(lvlm, Pixels(run.model).blank())(**batch.model_inputs())
    loss.backward()
    assert loss.item() > 0
    for parameter in projector(lvlm).parameters():
        assert parameter.grad is not None and not parameter.grad.any()


def test_padding_changes_no_loss(make_run, samples):
    run = make_run()
    module = LvlmWithLoss(loading.load(run.model), Pixels(run.model).blank())
    pad = samples.tokenizer.pad_token_id
    rows = [samples[index] for index in range(4)]

    def loss(parts):
        batch = collate(parts, pad_token_id=pad)
        with torch.inference_mode():
            return module(**batch.model_inputs()).item()

    assert loss(rows) == pytest.approx(sum(loss([row]) for row in rows), rel=1e-5)


def test_the_loss_does_not_depend_on_the_chunks_of_the_head(make_run, monkeypatch):
    run = make_run()
    lvlm = loading.load(run.model)
    module = LvlmWithLoss(lvlm, Pixels(run.model).blank(), EngineConfig(zero_stage=2, supervised_head=True))
    torch.manual_seed(0)
    states = torch.randn(50, 64, requires_grad=True)
    labels = torch.randint(0, 100, (50,)).masked_fill(torch.rand(50) > 0.5, -100)
    plain = torch.nn.functional.cross_entropy(lvlm.lm_head(states), labels, reduction="sum")
    module.chunk = 7
    chunked = module.nll_sum(states, labels)
    torch.testing.assert_close(chunked, plain)
    torch.testing.assert_close(torch.autograd.grad(chunked, states), torch.autograd.grad(plain, states))
    nothing = module.nll_sum(states, torch.full((50,), -100))
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, states)[0].any()
