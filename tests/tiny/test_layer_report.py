"""The layer report tells layers that work from layers that do nothing."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from vrx.tiny import backbone, layer_report
from vrx.tiny.build import WEIGHTS
from vrx.tiny.layer_report import LayerReport
from vrx.tiny.text import Encode, word_encoder


@pytest.fixture(scope="module")
def encode() -> Encode:
    return word_encoder(PreTrainedTokenizerFast.from_pretrained(WEIGHTS))


@pytest.fixture(scope="module")
def with_identity() -> LlamaForCausalLM:
    """A random backbone of six layers whose layer 2 is an identity."""
    torch.manual_seed(0)
    model = backbone.fresh_backbone(PreTrainedTokenizerFast.from_pretrained(WEIGHTS), 6)
    layer = model.model.layers[2]
    for output in (layer.self_attn.o_proj, layer.mlp.down_proj):
        torch.nn.init.zeros_(output.weight)  # type: ignore[arg-type]
    return model


def test_an_identity_has_no_influence_and_costs_nothing(with_identity: LlamaForCausalLM, encode: Encode):
    report = layer_report.measure(with_identity, encode, num_batches=1)
    assert report.influence[2] == pytest.approx(0, abs=1e-6)
    assert report.single_cost[2] == pytest.approx(0, abs=1e-6)
    assert min(report.influence[layer] for layer in (0, 1, 3, 4, 5)) > layer_report.MIN_INFLUENCE
    assert min(abs(report.single_cost[layer]) for layer in (0, 1, 3, 4, 5)) > 1e-5
    assert len(report.window_cost) == 3
    assert len(with_identity.model.layers) == with_identity.config.num_hidden_layers == 6


def test_leaving_out_all_layers_leaves_the_embeddings(with_identity: LlamaForCausalLM):
    ids = torch.arange(8)[None]
    with layer_report.without_layers(with_identity, range(6)):
        hidden = with_identity.model(input_ids=ids, use_cache=False).last_hidden_state
    expected = with_identity.model.norm(with_identity.model.embed_tokens(ids))
    torch.testing.assert_close(hidden, expected)


def test_criteria_are_judged_at_their_bounds():
    works = LayerReport(0.1, [0.002] * 5 + [0.0], [0.005] * 3 + [0.0] * 3, [0.05] * 3)
    assert list(works.criteria().values()) == [True, True, True]
    fails = LayerReport(0.1, [0.002] * 4 + [0.0] * 2, [0.005] * 2 + [0.0] * 4, [0.05, 0.05, 0.049])
    assert list(fails.criteria().values()) == [False, False, False]
    assert str(fails).count("NO ") == 3


def test_a_deepened_backbone_computes_a_similar_function(with_identity: LlamaForCausalLM):
    ids = torch.arange(40)[None]
    states = with_identity.model(input_ids=ids).last_hidden_state
    distances = [
        (backbone.deepen(with_identity, num_layers).model(input_ids=ids).last_hidden_state - states).norm()
        for num_layers in (6, 12, 24)
    ]
    assert distances[0] == 0
    assert 0 < distances[1] < 0.8 * states.norm()
    assert len(backbone.deepen(with_identity, 24).model.layers) == 24


@pytest.mark.slow
def test_all_layers_of_the_embedded_backbone_work(encode: Encode):
    report = layer_report.measure(LlamaForCausalLM.from_pretrained(WEIGHTS / "backbone"), encode)
    assert all(report.criteria().values()), report
