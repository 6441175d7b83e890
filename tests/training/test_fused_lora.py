"""A fused Linear and its adapter compute what PEFT computes, gradients too."""

from __future__ import annotations

import pytest
import torch

from vrx.config.schema import LoraConfig
from vrx.models import loading, lora
from vrx.models.lvlm import decoder_layers
from vrx.training import fused_lora


@pytest.fixture
def decoder(make_run):
    """A decoder layer of the embedded LVLM in training, with adapters that are not zero and dropout."""
    lvlm = loading.load(make_run().model)
    lora.apply_lora(lvlm, [3], LoraConfig(r=4, alpha=8, dropout=0.25))
    torch.manual_seed(1)
    for name, tensor in lora.trainable_parameters(lvlm).items():
        if "lora_B" in name:
            tensor.data.normal_(std=0.1)
    return decoder_layers(lvlm)[3].train()


def test_a_fused_adapter_with_the_same_mask_has_pefts_output_and_gradients(decoder, monkeypatch):
    linear = decoder.mlp.up_proj
    x = torch.randn(2, 5, 64, requires_grad=True)
    keep = torch.rand(2, 5, 64) > 0.25
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p, training, inplace=False: x * keep / (1 - p))
    upper = torch.randn(2, 5, linear.out_features)
    wanted = [x, linear.lora_A["default"].weight, linear.lora_B["default"].weight]
    plain = linear(x)
    grads = torch.autograd.grad(plain, wanted, upper)
    assert fused_lora.fuse(decoder) == 7
    monkeypatch.setattr(fused_lora, "keep_mask", lambda x, dropout: keep)
    fused = linear(x)
    torch.testing.assert_close(fused, plain)
    for ours, theirs in zip(torch.autograd.grad(fused, wanted, upper), grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_gradients_of_a_fused_adapter_match_finite_differences(decoder):
    torch.manual_seed(0)
    x, w, a, b = (torch.randn(*shape, dtype=torch.float64) for shape in ((3, 6), (5, 6), (2, 6), (5, 2)))
    keep = torch.rand(3, 6) > 0.3
    inputs = [tensor.requires_grad_() for tensor in (x, a, b)]

    def run(x, a, b):
        return fused_lora.AdaptedLinear.apply(x, w, None, a, b, 1.5, keep, 0.3)

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("dropout", [0.05, 0.5])
def test_a_dropout_mask_keeps_its_share_and_is_new_each_time(dropout):
    torch.manual_seed(0)
    masks = [fused_lora.keep_mask(torch.empty(1001, 33), dropout) for _ in range(2)]
    assert masks[0].shape == (1001, 33) and not torch.equal(*masks)
    for mask in masks:
        spread = (dropout * (1 - dropout) / mask.numel()) ** 0.5
        assert abs(1 - mask.float().mean().item() - dropout) < 5 * spread
        for lane in range(4):  # of the 64 random bits: none is special
            assert abs(1 - mask.flatten()[lane::4].float().mean().item() - dropout) < 10 * spread


def test_in_evaluation_a_fused_adapter_drops_nothing(decoder):
    x = torch.randn(1, 3, 64)
    plain = decoder.eval().mlp.up_proj(x)
    fused_lora.fuse(decoder)
    torch.testing.assert_close(decoder.mlp.up_proj(x), plain)
