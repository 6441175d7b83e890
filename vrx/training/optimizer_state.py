"""The state of an optimizer as plain tensors: of whole parameters, so that any number of ranks can resume from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vrx.config.errors import UserError
from vrx.launch.logging import rank
from vrx.launch.ranks import world_size

State = dict[str, Tensor]
INTEGER = ":int"  # ends the name of a value that the optimizer holds as a Python integer
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW
MASTER, STEP = "master", "step"


@dataclass(frozen=True)
class Fragment:
    """The part of a parameter that this rank updates: numel values from `start` on, which lie in `master` from `offset`
    on. Both are positions in flattened tensors; numel is 0 where other ranks have the whole parameter.

    is_shared: every rank has the whole parameter.
    """

    name: str
    shape: torch.Size
    master: Tensor
    offset: int
    start: int
    numel: int
    is_shared: bool = False

    def of(self, flat: Tensor) -> Tensor:
        """A view of this part in the master weights or in a moment of the same shape."""
        return flat.view(-1).narrow(0, self.offset, self.numel)


def whole(name: str, master: Tensor) -> Fragment:
    """The fragment of a parameter that every rank updates as a whole."""
    return Fragment(name, master.shape, master, 0, 0, master.numel(), is_shared=True)


def optimizer_state(
    optimizer: torch.optim.Optimizer, fragments: Callable[[], Sequence[Fragment]], masters: Sequence[Tensor]
) -> State:
    """This rank's share of master weights and moments: by whole parameters where `is_resharded`, else by ranks."""
    if is_resharded(optimizer):
        return state_of_parameters(optimizer, fragments())
    return state_by_ranks(optimizer, masters)


def load_optimizer_state(
    optimizer: torch.optim.Optimizer,
    fragments: Callable[[], Sequence[Fragment]],
    masters: Sequence[Tensor],
    state: Mapping[str, Tensor],
) -> None:
    """Restore what `optimizer_state` gave on all ranks, in either form; `UserError` for one that does not fit."""
    if is_by_ranks(state):
        load_state_by_ranks(optimizer, masters, state)
    else:
        load_state_of_parameters(optimizer, fragments(), state)


def is_resharded(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the state is saved by whole parameters: of AdamW. 8-bit moments have a scale per block of a rank's part,
    so their state is saved by ranks."""
    return isinstance(optimizer, torch.optim.AdamW)


def state_of_parameters(optimizer: torch.optim.Optimizer, fragments: Sequence[Fragment]) -> State:
    """Master weights and moments as `<parameter>.<name>` in whole shapes, on the CPU; all ranks call this.

    Every rank gets its share of the parameters, so that together they hold each once.
    """
    state: State = {}
    for number, fragment in enumerate(fragments):
        moments = optimizer.state.get(fragment.master, {})
        parts = {MASTER: fragment.master, **{key: moments[key] for key in MOMENTS if key in moments}}
        for key, part in parts.items():
            full = _gathered(fragment, part.detach())
            if number % world_size() == rank():
                state[f"{fragment.name}.{key}"] = full.cpu().clone()
        if STEP in moments and number % world_size() == rank():
            state[f"{fragment.name}.{STEP}"] = moments[STEP].detach().cpu().clone()
    return state


def load_state_of_parameters(
    optimizer: torch.optim.Optimizer, fragments: Sequence[Fragment], state: Mapping[str, Tensor]
) -> None:
    """Copy what `state_of_parameters` gave on all ranks into this rank's fragments.

    `UserError` where a tensor is missing, too many or of another shape.
    """
    unknown = {key.rpartition(".")[0] for key in state} - {fragment.name for fragment in fragments}
    if unknown:
        raise UserError(f"checkpoint: has {min(unknown)}, which is not trained in this run")
    for fragment in fragments:
        _copy_into(fragment, fragment.master, MASTER, state)
        if f"{fragment.name}.{STEP}" not in state:
            continue
        moments = optimizer.state.setdefault(fragment.master, {})
        moments[STEP] = state[f"{fragment.name}.{STEP}"].clone()
        for key in MOMENTS:
            if key not in moments:
                moments[key] = torch.zeros_like(fragment.master)
            _copy_into(fragment, moments[key], key, state)


def _gathered(fragment: Fragment, flat: Tensor) -> Tensor:
    """A whole parameter, or a moment of it, from the fragments of all ranks, in its shape."""
    if fragment.is_shared or world_size() == 1:
        return fragment.of(flat).view(fragment.shape)
    buffer = torch.zeros(fragment.shape.numel(), dtype=torch.float32, device=flat.device)
    buffer.narrow(0, fragment.start, fragment.numel).copy_(fragment.of(flat))
    torch.distributed.all_reduce(buffer.view(torch.int32))  # as integers: the other ranks add 0 to the very bits
    return buffer.view(fragment.shape)


def _copy_into(fragment: Fragment, flat: Tensor, key: str, state: Mapping[str, Tensor]) -> None:
    name = f"{fragment.name}.{key}"
    if name not in state:
        raise UserError(f"checkpoint: lacks the tensor {name}")
    full = state[name]
    if full.shape != fragment.shape:
        raise UserError(f"checkpoint: {name} has shape {tuple(full.shape)}, expected {tuple(fragment.shape)}")
    fragment.of(flat.data).copy_(full.reshape(-1).narrow(0, fragment.start, fragment.numel))


def state_by_ranks(optimizer: torch.optim.Optimizer, masters: Sequence[Tensor]) -> State:
    """This rank's part of master weights and moments on the CPU, as `<number of the tensor>.<name>`."""
    state: State = {}
    for number, master in enumerate(masters):
        state[f"{number}.{MASTER}"] = master.detach().cpu().clone()
        for key, value in optimizer.state[master].items():
            if isinstance(value, Tensor):
                state[f"{number}.{key}"] = value.detach().cpu().clone()
            else:
                state[f"{number}.{key}{INTEGER}"] = torch.tensor(value)
    return state


def load_state_by_ranks(
    optimizer: torch.optim.Optimizer, masters: Sequence[Tensor], state: Mapping[str, Tensor]
) -> None:
    """Copy what `state_by_ranks` gave into master weights and optimizer; a `UserError` where a shape differs."""
    for number, master in enumerate(masters):
        parts = {key.partition(".")[2]: state[key] for key in state if key.startswith(f"{number}.")}
        if parts[MASTER].shape != master.shape:
            raise UserError(
                f"checkpoint: tensor {number} has shape {tuple(parts[MASTER].shape)}, expected {tuple(master.shape)}"
            )
        master.data.copy_(parts.pop(MASTER))
        optimizer.state[master] = dict(_restored(key, value, master.device) for key, value in parts.items())


def is_by_ranks(state: Mapping[str, Tensor]) -> bool:
    """Whether a state is one of `state_by_ranks`."""
    return any(name.partition(".")[0].isdecimal() for name in state)


def _restored(key: str, value: Tensor, device: torch.device) -> tuple[str, Tensor | int]:
    if key.endswith(INTEGER):
        return key.removesuffix(INTEGER), int(value)
    return key, value.clone() if key == STEP else value.to(device)
