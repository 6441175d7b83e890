"""The part `instructions` of the schema: where conversations are, and how several data sets are mixed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from vrx.config.bounds import number
from vrx.config.errors import UserError

COLUMNS = ("messages", "conversations", "texts", "images", "image", "id")


@dataclass
class InstructionSource:
    """Conversations of one kind. All keys but the first two are for models other than LLaVA-1.5 and Bunny."""

    path: str | None = None  # LLaVA's JSON; or messages as JSON, JSON Lines or Parquet, a folder or hub id of Parquet
    image_folder: str | None = None
    subset: str | None = None  # a folder of the data set
    split: str = "train"  # of a data set whose files are named after splits
    revision: str | None = None  # of a hub id: a commit, tag or branch
    # what a column is called: {texts: qa} reads the column qa as texts; also messages, conversations, images, image, id
    columns: dict[str, str] = field(default_factory=dict)


@dataclass
class MixedSource(InstructionSource):
    """One data set of a mixture."""

    weight: float = number(1.0, 0, 1000)  # how often each conversation is seen in an epoch: 0.5 is a random half


@dataclass
class InstructionsConfig(InstructionSource):
    section: ClassVar[str] = "instructions"  # its name in messages

    on_bad_image: str = "error"  # error | skip | replace
    mix: dict[str, MixedSource] = field(default_factory=dict)  # several data sets instead of path, by name


def check_sources(data: InstructionsConfig, *, has_parts: bool) -> None:
    """Refuse sources that cannot be read: `UserError` with the key.

    has_parts: the model is assembled from parts, as LLaVA-1.5 is; such models read LLaVA's JSON alone.
    """
    if has_parts:
        for key in ("subset", "revision", "columns", "mix"):
            if value := getattr(data, key):
                raise UserError(
                    f"{data.section}.{key}={value}: valid with another model.architecture than llava, "
                    "whose models read LLaVA's JSON alone"
                )
    if data.mix and data.path is not None:
        raise UserError(
            f"{data.section}.path={data.path}: valid with {data.section}.mix is null; add it to the mixture"
        )
    for name, source in {"": data, **data.mix}.items():
        key = f"{data.section}.mix.{name}" if name else data.section
        for column in source.columns:
            if column not in COLUMNS:
                raise UserError(f"{key}.columns.{column}: no such column; valid are {', '.join(COLUMNS)}")
