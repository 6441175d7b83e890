"""The decoder of a tuned LVLM as weights on disk: an adapter's change is added to a tensor when that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from vrx import layouts
from vrx.answers import done_to
from vrx.config import ModelConfig
from vrx.paths import fetched
from vrx.stored import Stored
from vrx.surgery import LAYER


def tuned_state(config: ModelConfig, run_dir: Path) -> Mapping[str, Tensor] | None:
    """The weights of the LVLM that a run left, of its decoder at least; None where the decoder is the backbone's."""
    state: Merged | Stored | None = None
    if config.lvlm is not None:
        folder = fetched("model.lvlm", config.lvlm)
        adapter = layouts.adapter_of(folder)
        state = Stored(folder) if adapter is None else Merged(_backbone(config), adapter)
    adapter = done_to(run_dir).source / "adapter"
    return Merged(state or _backbone(config), adapter) if adapter.is_dir() else state


def _backbone(config: ModelConfig) -> Stored:
    return Stored(fetched("model.backbone", config.backbone))


class Merged(Mapping[str, Tensor]):
    """The tensors of `state` by name, those that an adapter changes with its change in them.

    W + scale B A of one tensor at a time, in fp32: merged in bf16, a small change would be rounded away.
    """

    def __init__(self, state: Stored | Merged, adapter: Path) -> None:
        self.state, self.shapes = state, state.shapes
        self._adapter, pairs, self._scale = layouts.adapter_tensors(adapter)
        self._pairs = {_place(name): pair for name, pair in pairs.items()}
        places = {_place(name) for name in state}
        if foreign := [name for name in pairs if _place(name) not in places]:
            raise ValueError(f"{adapter}: changes {layouts.some(foreign)}, which the backbone has not")

    def __getitem__(self, name: str) -> Tensor:
        tensor, pair = self.state[name], self._pairs.get(_place(name))
        if pair is None:
            return tensor
        return tensor.float() + self._scale * (self._adapter[pair["B"]].float() @ self._adapter[pair["A"]].float())

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


def _place(name: str) -> tuple[str, ...]:
    """A decoder layer's number and the tensor's name within it, whatever stands around them; else the name."""
    match = LAYER.fullmatch(name)
    return match.groups() if match else (name,)
