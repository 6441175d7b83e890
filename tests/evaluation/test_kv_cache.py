"""The preallocated KV cache returns the same keys and values as transformers' cache."""

from __future__ import annotations

import torch
from transformers import DynamicCache, LlamaConfig, Phi3Config

from vrx.evaluation.kv_cache import preallocated_cache


def test_cache_returns_the_same_keys_and_values_as_transformers():
    config = LlamaConfig(num_hidden_layers=2)
    ours, plain = preallocated_cache(config), DynamicCache(config=config)
    generator = torch.Generator().manual_seed(0)
    for length in (5, 1, 70, 1, 200, 1):
        for layer in range(2):
            new = [torch.randn(2, 3, length, 4, generator=generator) for _ in range(2)]
            for mine, theirs in zip(ours.update(*new, layer), plain.update(*new, layer), strict=True):
                assert torch.equal(mine, theirs)
        assert ours.get_seq_length() == plain.get_seq_length()


def test_cache_grows_in_steps_instead_of_with_every_token(monkeypatch):
    cache, allocations = preallocated_cache(LlamaConfig(num_hidden_layers=1)), []
    new_empty = torch.Tensor.new_empty
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda self, *size: (allocations.append(size), new_empty(self, *size))[1]
    )
    for _ in range(64):
        cache.update(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4), 0)
    assert len(allocations) == 2, "one buffer for keys and one for values"


def test_layers_with_a_sliding_window_keep_only_their_window():
    config = Phi3Config(num_hidden_layers=1, sliding_window=8)
    ours, plain = preallocated_cache(config), DynamicCache(config=config)
    generator = torch.Generator().manual_seed(0)
    for length in (12, 1, 1):
        new = [torch.randn(1, 2, length, 4, generator=generator) for _ in range(2)]
        assert torch.equal(ours.update(*new, 0)[0], plain.update(*new, 0)[0])
    assert ours.layers[0].keys.shape == plain.layers[0].keys.shape == (1, 2, 7, 4)
