"""The LVLMs whose answers are shown side by side: finished runs and the model before tuning, and a row for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from vrx.config.plain_text import visible
from vrx.config.schema import ModelConfig, RunConfig, RuntimeConfig
from vrx.runs.files import digest
from vrx.runs.identity import base_identity
from vrx.runs.layer_selection import format_layers
from vrx.runs.record import Record
from vrx.runs.run_config import write_config

COLUMNS = ("run", "answer", "probability in percent")


@dataclass(frozen=True)
class ComparedModel:
    """An LVLM by the configuration that loads it, and what it is called."""

    run: RunConfig
    name: str


def compared_models(
    run: RunConfig, finished: Sequence[tuple[RunConfig, Record | None]], *, untouched: bool
) -> list[ComparedModel]:
    """Finished runs, as `finished_model` gives them; with `untouched` first the model of each before its tuning.

    Runs of several models are called by their model too.

    run: the command, whose model is the untouched one where there is no run.
    """
    bases = _base_models(run, [model for model, _ in finished] or [run]) if untouched else []
    several = len({model.model.name for model, _ in finished}) > 1
    runs = [
        ComparedModel(model, (f"{model.model.name}, " if several else "") + _name(record))
        for model, record in finished
        if record is not None
    ]
    return [*bases, *runs]


def write_models(folder: Path, models: Sequence[RunConfig], runtime: RuntimeConfig) -> None:
    """Make a folder for each model, in order, with the configuration from which a worker loads it."""
    for number, model in enumerate(models):
        write_config(folder / f"{number:03}", dataclasses.replace(model, runtime=runtime))


def model_folders(folder: Path) -> list[Path]:
    """The folders that `write_models` made, in order."""
    return sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: int(path.name))


def answer_row(name: str, answer: dict[str, Any]) -> list[str]:
    """The texts under `COLUMNS`. answer: as `vrx.evaluation.asking.answer_with_probabilities` gives it."""
    shares = "  ".join(f"{_shown(text)} {100 * share:.1f}" for text, share in answer["probabilities"])
    return [name, _shown(answer["text"]), shares]


def _base_models(run: RunConfig, models: Sequence[RunConfig]) -> list[ComparedModel]:
    """Each LVLM before tuning once, by its name and identity, in order.

    Those of one name are told apart by what differs.
    """
    bases: dict[str, RunConfig] = {}
    for model in models:
        bases.setdefault(digest([model.model.name, base_identity(model)]), model)
    compared = []
    for base in bases.values():
        namesakes = [other.model for other in bases.values() if other.model.name == base.model.name]
        name = f"{base.model.name}, untouched{_differences(base.model, namesakes)}"
        compared.append(ComparedModel(dataclasses.replace(base, job=run.job), name))
    return compared


def _differences(model: ModelConfig, namesakes: Sequence[ModelConfig]) -> str:
    """What not all namesakes share: ` (projector=b7, max_length=512)`.

    Of paths the last part is shown where it tells them apart.
    """
    texts = []
    for field in dataclasses.fields(model):
        values = {str(getattr(each, field.name)) for each in namesakes}
        short_names = {value: PurePath(value).name for value in values}
        own = str(getattr(model, field.name))
        if len(values) > 1:
            is_short_enough = len(set(short_names.values())) == len(values)
            texts.append(f"{field.name}={short_names[own] if is_short_enough else own}")
    return f" ({', '.join(texts)})" if texts else ""


def _name(record: Record) -> str:
    """A run by its id, and which layers were tuned, reverted and pruned, in a few words."""
    parts = [f"tuned {format_layers(record.layers)}"] if record.layers else ["untouched"]
    parts += [f"reverted {format_layers(record.reverted_layers)}"] if record.reverted_layers else []
    parts += [f"pruned {format_layers(record.pruned_layers)}"] if record.pruned_layers else []
    return f"{record.run_id}: {', '.join(parts)}"


def _shown(text: str) -> str:
    """A text of the model in one line, in quotes where it has blanks alone or what a terminal would act on."""
    stripped = text.strip()
    return stripped if stripped and visible(stripped) == stripped else f"'{visible(text)}'"
