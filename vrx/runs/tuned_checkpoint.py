"""A checkpoint of transformers' own class that runs of vrx have tuned: `model.lvlm` may name the last of them."""

from __future__ import annotations

from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.paths import resolve_path
from vrx.runs.run_dir import RunDir


def base_checkpoint(name: str) -> str:
    """The folder or hub id of the checkpoint under a run; any other name stays as it is."""
    return tuned_checkpoint(name)[0]


def tuned_checkpoint(name: str) -> tuple[str, list[Path]]:
    """The checkpoint that `model.lvlm` stands for, and the adapters to merge into it, the first first.

    name: a folder or hub id, the directory of a finished fine-tune, whose own `model.lvlm` may be one again, or that of
    a pruning, which holds a whole checkpoint. `UserError` for the directory of any other run.
    """
    adapters: list[Path] = []
    while (run_dir := _run_directory(name)) is not None:
        if RunDir(run_dir).pruned.is_dir():
            return str(RunDir(run_dir).pruned), adapters
        adapter, model = RunDir(run_dir).adapter, load_frozen(RunDir(run_dir).config).model
        if not (adapter / "adapter_config.json").is_file() or model.is_assembled or model.lvlm is None:
            raise UserError(
                f"model.lvlm={name}: a run without an adapter on one checkpoint; valid is a fine-tune or a pruning"
            )
        if adapter in adapters:
            raise UserError(f"model.lvlm={name}: tunes its own result; see {RunDir(run_dir).config}")
        adapters.insert(0, adapter)
        name = model.lvlm
    return name, adapters


def _run_directory(name: str) -> Path | None:
    folder = Path(resolve_path(name))
    return folder if RunDir(folder).config.is_file() and not (folder / "config.json").is_file() else None
