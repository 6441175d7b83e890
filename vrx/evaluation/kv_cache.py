"""Keys and values of what an LVLM has read, kept with room for what it will say."""

from __future__ import annotations

from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 64  # tokens of an answer; longer ones make new room, as large again


class _Roomy(DynamicLayer):
    """A layer of the cache that does not copy all it holds for each token more; same keys, same values."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Shapes (batch, heads, new tokens, head size) in, (batch, heads, all tokens, head size) out."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._rooms = [key_states[:, :, :0], value_states[:, :, :0]]
        start, end = self.get_seq_length(), self.get_seq_length() + key_states.shape[-2]
        for number, new in enumerate((key_states, value_states)):
            if end > self._rooms[number].shape[-2]:
                larger = new.new_empty(*new.shape[:2], end + max(ROOM, start // 4), new.shape[-1])
                larger[:, :, :start] = self._rooms[number][:, :, :start]
                self._rooms[number] = larger
            self._rooms[number][:, :, start:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self._rooms)
        return self.keys, self.values


def roomy_cache(config: PretrainedConfig) -> DynamicCache:
    """A cache for one batch; layers of another kind, such as with a sliding window, are transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [_Roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
