"""The weights of a tuned decoder, read from disk with the adapter merged into each tensor on access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from vrx.config.schema import ModelConfig
from vrx.models.checkpoint_layouts import memory_name
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.lora_checkpoint import Adapter, find_adapter
from vrx.models.native import load_native
from vrx.runs.hub import resolve_checkpoint
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import read_surgery


def tuned_state(config: ModelConfig, run_dir: Path) -> Mapping[str, Tensor] | None:
    """The weights of a run's LVLM, at least of its decoder; None if the decoder equals the backbone."""
    if not config.is_assembled:
        adapter = RunDir(read_surgery(run_dir).source).adapter
        base = load_native(config).state_dict() if adapter.is_dir() else {}
        return MergedStateDict(base, adapter, is_native=True) if adapter.is_dir() else None
    state: MergedStateDict | LazyStateDict | None = None
    if config.lvlm is not None:
        folder = resolve_checkpoint("model.lvlm", config.lvlm)
        adapter = find_adapter(folder)
        state = LazyStateDict(folder) if adapter is None else MergedStateDict(_backbone(config), adapter)
    adapter = RunDir(read_surgery(run_dir).source).adapter
    return MergedStateDict(state or _backbone(config), adapter) if adapter.is_dir() else state


def _backbone(config: ModelConfig) -> LazyStateDict:
    return LazyStateDict(resolve_checkpoint("model.backbone", config.backbone))


class MergedStateDict(Mapping[str, Tensor]):
    """The tensors of `state`, with an adapter merged into those that it changes.

    Merged on access, in fp32: bf16 would round small changes away.
    """

    def __init__(self, state: Mapping[str, Tensor], folder: Path, *, is_native: bool = False) -> None:
        """is_native: the names are those in memory, of a model that is one checkpoint."""
        self.state, self._adapter, self._is_native = state, Adapter(folder, is_native=is_native), is_native
        shapes: Mapping[str, tuple[int, ...]] | None = getattr(state, "shapes", None)
        self.shapes = {name: tuple(state[name].shape) for name in state} if shapes is None else shapes
        self._adapter.require_fit({self._memory_name(name): shape for name, shape in self.shapes.items()})

    def _memory_name(self, name: str) -> str:
        return name if self._is_native else str(memory_name(name))

    def __getitem__(self, name: str) -> Tensor:
        tensor, weight = self.state[name], self._memory_name(name)
        return self._adapter.merge(weight, tensor) if weight in self._adapter.shapes else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)
