"""KV cache with preallocated space for new tokens."""

from __future__ import annotations

from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

MIN_EXTRA_TOKENS = 64  # free positions after each growth, at least


class _PreallocatedLayer(DynamicLayer):
    """A cache layer that grows in steps instead of copying all keys and values for every new token."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values, (batch, heads, new tokens, head size); returns (batch, heads, all tokens, head size).

        The result equals that of transformers' layer; only the memory it lies in differs.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = [key_states[:, :, :0], value_states[:, :, :0]]
        start, end = self.get_seq_length(), self.get_seq_length() + key_states.shape[-2]
        for number, new in enumerate((key_states, value_states)):
            if end > self._buffers[number].shape[-2]:
                larger = new.new_empty(*new.shape[:2], end + max(MIN_EXTRA_TOKENS, start // 4), new.shape[-1])
                larger[:, :, :start] = self._buffers[number][:, :, :start]
                self._buffers[number] = larger
            self._buffers[number][:, :, start:end] = new
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values


def preallocated_cache(config: PretrainedConfig) -> DynamicCache:
    """A cache for one batch; layers of other kinds, such as those with a sliding window, stay transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [_PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
