"""Activation scores equal those computed from eager attention maps and all hidden states."""

from __future__ import annotations

import dataclasses
import gc
import math

import pytest
import torch
from support.small_models import DEPTH, IMAGE, forward_inputs, rows_of, small_batch, small_lvlm
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vrx.data.batch import MicroBatch
from vrx.models import probe
from vrx.models.lvlm import decoder_layers
from vrx.selectors import importance


@pytest.fixture(params=["llama", "phi3", "qwen2"])
def lvlm(request):
    return small_lvlm(request.param)


def rows(batch, numbers):
    """Some rows of a batch, as long as its longest."""
    tensors = {name: tensor[list(numbers)] for name, tensor in batch.model_inputs().items()}
    return MicroBatch(**tensors)


@torch.inference_mode()
def naive(lvlm, sample):
    """Every score of one sample from full attention maps and all hidden states, in fp64: name -> (layers,)."""
    lvlm.set_attn_implementation({"text_config": "eager"})
    inputs, outputs = forward_inputs(sample), []
    handle = decoder_layers(lvlm)[-1].register_forward_hook(lambda module, args, output: outputs.append(output))
    output = lvlm(**inputs, output_attentions=True, output_hidden_states=True)
    handle.remove()
    lvlm.set_attn_implementation({"text_config": "sdpa"})
    states = [tensor[0].double() for tensor in output.hidden_states]  # the last one is after the final norm
    image = sample.input_ids[0] == IMAGE
    scores = {}
    for suffix, last in (("", outputs[0][0].double()), ("_final_norm", states[-1])):
        pairs = list(zip(states[:-1], [*states[1:-1], last], strict=True))
        cosines = torch.stack([nn.functional.cosine_similarity(*pair, dim=-1) for pair in pairs])
        angles = cosines.clamp(-1, 1).arccos() / math.pi
        scores[f"block_influence{suffix}"] = 1 - cosines.mean(1)
        scores[f"multimodal_block_influence{suffix}"] = 1 - (cosines[:, image].mean(1) + cosines[:, ~image].mean(1)) / 2
        scores[f"angular_distance_inputs{suffix}"] = angles[:, -1]
        scores[f"angular_distance_inputs_all_tokens{suffix}"] = angles.mean(1)
    maps = torch.stack([layer[0].double() for layer in output.attentions])  # (layers, heads, queries, keys)
    scores["image_attention"] = maps[..., image].sum((1, 2, 3)) / (image.sum() * maps.shape[1])
    scores["image_attention_share"] = maps[..., image].sum(-1).mean((1, 2))
    return scores


@pytest.mark.parametrize("pad", ["left", "right"])
def test_activation_scores_equal_those_of_eager_maps_and_all_hidden_states(lvlm, pad):
    batch = small_batch(pad=pad)
    expected = [naive(lvlm, sample) for sample in rows_of(batch)]
    computed = probe.activation_scores(lvlm, batch)
    assert computed.keys() == expected[0].keys() == set(probe.ACTIVATION_SCORES)
    for name, scores in computed.items():
        assert scores.shape == (3, DEPTH) and scores.dtype == torch.float64
        torch.testing.assert_close(scores, torch.stack([sample[name] for sample in expected]), atol=1e-5, rtol=0)


def test_samples_of_one_length_need_no_mask_and_score_the_same(lvlm):
    sample = next(iter(rows_of(small_batch())))
    for name, scores in probe.activation_scores(lvlm, rows(sample, [0, 0])).items():
        torch.testing.assert_close(scores[1], naive(lvlm, sample)[name], atol=1e-5, rtol=0)


def test_sliding_window_of_the_model_is_respected():
    lvlm = small_lvlm("phi3", sliding_window=5)
    sample = next(iter(rows_of(small_batch())))
    windowed = probe.activation_scores(lvlm, sample, names=["image_attention"])["image_attention"][0]
    torch.testing.assert_close(windowed, naive(lvlm, sample)["image_attention"], atol=1e-5, rtol=0)
    full = probe.activation_scores(small_lvlm("phi3"), sample, names=["image_attention"])["image_attention"][0]
    assert (windowed - full).abs().min() > 1e-3


@pytest.mark.parametrize("size", [1, 2, 5])
def test_mean_scores_do_not_depend_on_the_batch_split(size):
    lvlm, full_batch = small_lvlm(), small_batch(num=5)
    batches = [rows(full_batch, range(5)[first : first + size]) for first in range(0, 5, size)]
    expected = {name: scores.mean(0).tolist() for name, scores in probe.activation_scores(lvlm, full_batch).items()}
    means = probe.mean_scores(lvlm, batches)
    for name, mean in means.items():
        assert mean.num_samples == 5
        assert mean.scores() == pytest.approx(expected[name], abs=1e-6), name


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_layer_that_returns_its_input_has_no_influence(layer):
    lvlm = small_lvlm()
    block = decoder_layers(lvlm)[layer]
    nn.init.zeros_(block.self_attn.o_proj.weight)
    nn.init.zeros_(block.mlp.down_proj.weight)
    for name, scores in probe.activation_scores(lvlm, small_batch()).items():
        if name.endswith("_final_norm") and layer == DEPTH - 1:
            assert (scores[:, layer] > 1e-3).all(), name
        elif not name.startswith("image_attention"):
            assert (scores[:, layer] == 0).all() and (scores.sum(0) > 0).sum() == DEPTH - 1, name


def test_single_score_can_be_computed_alone():
    lvlm, batch = small_lvlm(), small_batch()
    everything = probe.activation_scores(lvlm, batch)
    for name in probe.ACTIVATION_SCORES:
        single = probe.activation_scores(lvlm, batch, names=[name])
        assert single.keys() == {name}
        torch.testing.assert_close(single[name], everything[name])


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_hooks_and_attention_implementation_are_restored(implementation):
    lvlm, batch = small_lvlm(), small_batch()
    lvlm.set_attn_implementation({"text_config": implementation})
    before, plain = lvlm(**forward_inputs(batch)).logits, ALL_ATTENTION_FUNCTIONS["sdpa"]
    probe.activation_scores(lvlm, batch)
    decoder_layers(lvlm)[1].register_forward_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        probe.activation_scores(lvlm, batch)
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is plain
    assert lvlm.config.text_config._attn_implementation == implementation
    assert [len(layer._forward_hooks) for layer in decoder_layers(lvlm)] == [0, 1, 0, 0]
    decoder_layers(lvlm)[1]._forward_hooks.clear()
    assert torch.equal(lvlm(**forward_inputs(batch)).logits, before)


def test_half_precision_lvlm_is_scored():
    lvlm, batch = small_lvlm(), small_batch()
    expected = probe.activation_scores(lvlm, batch)
    for name, scores in probe.activation_scores(lvlm.bfloat16(), batch).items():
        torch.testing.assert_close(scores, expected[name], atol=0.05, rtol=0.05)


def test_text_only_samples_have_no_image_scores():
    lvlm = small_lvlm()
    batch = dataclasses.replace(small_batch(), pixels=None)
    batch.input_ids = batch.input_ids.where(batch.input_ids != IMAGE, 5)
    names = [name for name in probe.ACTIVATION_SCORES if name not in probe.IMAGE_SCORES]
    assert all(scores.isfinite().all() for scores in probe.activation_scores(lvlm, batch, names=names).values())
    with pytest.raises(ValueError, match=r"samples \[0, 1, 2\] of the batch have no image, so no image_attention"):
        probe.activation_scores(lvlm, batch, names=["image_attention", "block_influence"])


def test_unknown_scores_are_refused():
    with pytest.raises(ValueError, match=r"activation scores \['beauty'\]: valid are block_influence, "):
        probe.activation_scores(small_lvlm(), small_batch(), names=["beauty"])


def test_memory_does_not_grow_with_the_number_of_samples():
    lvlm, held = small_lvlm(), []

    def alive():
        gc.collect()
        tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())

    def batches():
        for seed in range(12):
            yield small_batch(seed=seed)
            held.append(alive())

    assert probe.mean_scores(lvlm, batches())["image_attention"].num_samples == 36
    assert max(held) == min(held), held


def test_full_attention_map_is_never_in_memory():
    lvlm, batch = small_lvlm(), small_batch(num=2)
    length = 600
    filler = torch.full((2, length - batch.input_ids.shape[1]), 7)
    batch.input_ids = torch.cat([batch.input_ids.where(batch.attention_mask == 1, 7), filler], 1)
    batch.attention_mask = torch.ones_like(batch.input_ids)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    with pytest.MonkeyPatch.context() as patch, Watch():
        patch.setattr(importance, "CHUNK_ELEMENTS", 2 * 4 * length * 50)  # 50 queries at a time
        probe.activation_scores(lvlm, batch, names=["image_attention"])
    assert largest < 2 * 4 * length * length / 4
