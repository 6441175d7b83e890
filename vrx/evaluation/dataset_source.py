"""The data of a benchmark as readers see it: files of the official download, or a data set of the hub with images."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from vrx.config.errors import UserError
from vrx.config.paths import inside

TABLE_FORMS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json"}  # of files


class Item(dict[str, Any]):
    """One record of a source, by column. Errors name its benchmark and position (`label`) and the column."""

    def __init__(self, values: dict[str, Any], label: str) -> None:
        super().__init__(values)
        self.label = label

    def __missing__(self, column: str) -> Any:
        raise self.error(column, f"is missing; there are {', '.join(map(str, self))}")

    def error(self, column: str, reason: str) -> UserError:
        """The error to raise for an invalid column; `reason` completes "column <name> …"."""
        return UserError(f"{self.label}: column {column} {reason}")

    def text(self, column: str) -> str:
        """A text that is not blank."""
        value = self[column]
        if not isinstance(value, str | int | float) or not str(value).strip():
            raise self.error(column, f"is {value!r}, must be a text")
        return str(value)

    def texts(self, column: str) -> list[str]:
        """A list of at least one text."""
        value = self[column]
        if not isinstance(value, list | tuple) or not value or any(entry is None for entry in value):
            raise self.error(column, f"is {value!r}, must be a list of at least one text")
        return [str(entry) for entry in value]

    def letter(self, column: str, number: int) -> str:
        """The letter of a column that holds the index of one of `number` choices."""
        value = self[column]
        if not isinstance(value, int) or not 0 <= value < number:
            raise self.error(column, f"is {value!r}, must be the index of one of {number} choices")
        return chr(ord("A") + value)


class Source:
    """The data of `benchmark.<name>.path`; readers get records from it and save images with it.

    `path` is a file or folder of the official download, a folder that `datasets` reads, or a hub id. `images` is the
    folder for images that are part of the data. `revision` is the commit, tag or branch of a hub id, by default its
    main branch.
    """

    def __init__(
        self, name: str, path: str, subset: str | None, split: str | None, images: Path, *, revision: str | None = None
    ) -> None:
        self.name, self.path, self.subset, self.split, self.images = name, path, subset, split, images
        self.revision = revision
        self.key = f"benchmark.{name}"

    def find_files(self, *patterns: str) -> list[Path]:
        """The local files that match the first pattern with a match, sorted; none if `path` is a hub id."""
        path = Path(self.path)
        if path.is_file():
            return [path] if any(path.match(pattern) for pattern in patterns) else []
        for pattern in patterns if path.is_dir() else ():
            files = sorted(file for file in path.rglob(pattern) if file.is_file() and file.name[0] not in "._")
            if files:
                return files
        return []

    def find_split_files(self, pattern: str, split: str) -> list[Path]:
        """As `find_files`, with the split put into the pattern; `UserError` if there are files of other splits only."""
        files = self.find_files(pattern.format(split))
        if not files and (others := self.find_files(pattern.format("*"))):
            names = ", ".join(dict.fromkeys(path.name for path in others[:5]))
            raise UserError(f"{self.key}.split={self.split}: {self.path} holds no {pattern.format(split)}, but {names}")
        return files

    def find_beside(self, *patterns: str) -> list[Path]:
        """As `find_files`, in the folder of the file that `path` names, and below it."""
        path = Path(self.path)
        folder = path if path.is_dir() else path.parent
        return Source(self.name, str(folder), self.subset, self.split, self.images).find_files(*patterns)

    def require(self, option: str, *valid: str) -> None:
        """Refuse a value of `split` or `subset` that is not among the valid ones."""
        if getattr(self, option) not in valid:
            raise UserError(f"{self.key}.{option}={getattr(self, option)}: valid are {', '.join(valid)}")

    def items(self, records: Iterable[object], of: str = "") -> Iterator[Item]:
        """Records as items; `of` names their part of the data in errors. Records must be JSON objects."""
        for number, values in enumerate(records):
            label = f"{self.key}: {of + ' ' if of else ''}sample {number}"
            if not isinstance(values, dict):
                raise UserError(f"{label}: is {str(values)[:40]!r}, must be an object with named columns")
            yield Item(values, label)

    def hub_items(self, *, subset: str | None = None) -> Iterator[Item]:
        """The rows of a data set of the hub, or of a folder that holds one; its code is never run."""
        import datasets

        datasets.disable_progress_bars()
        subset, folder = subset or self.subset, Path(self.path)
        label = f"{self.key}.path={self.path} subset={subset} split={self.split}"
        try:
            if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
                data = datasets.load_from_disk(self.path)
                if isinstance(data, datasets.DatasetDict):
                    self.require("split", *map(str, data))
                    data = data[str(self.split)]
            elif folder.is_file():  # one file of a data set, whatever split it is
                form = TABLE_FORMS.get(folder.suffix)
                if form is None:
                    raise UserError(f"{self.key}.path={self.path}: valid are files of {', '.join(TABLE_FORMS)}")
                data = datasets.load_dataset(form, data_files=self.path, split="train")
            elif folder.is_dir() and not (folder / "README.md").is_file():  # without one there are no subsets
                data = datasets.load_dataset(self.path, split=self.split)
            else:
                data = datasets.load_dataset(self.path, subset, split=self.split, revision=self.revision)
        except UserError:
            raise
        except Exception as error:  # `datasets`, the hub's client and the network raise many types
            raise UserError(f"{label}: {' '.join(str(error).split())[:300]}") from None
        assert isinstance(data, datasets.Dataset), "one split of a data set that is not streamed is one table"
        for column, feature in data.features.items():
            if isinstance(feature, datasets.Image):
                data = data.cast_column(column, datasets.Image(decode=False))
        return self.items(data)

    def hub_subsets(self) -> list[str]:
        """The names of the subsets of a data set of the hub."""
        import datasets

        try:
            return datasets.get_dataset_config_names(self.path, revision=self.revision)
        except Exception as error:
            raise UserError(f"{self.key}.path={self.path}: {' '.join(str(error).split())[:300]}") from None

    def save_image(self, item: Item, name: str, *, column: str = "image") -> str:
        """Write a record's image into `images`, byte by byte, unless it exists; returns `name` with the file's suffix.

        `name` must not leave the folder.
        """
        value = item[column]
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None and isinstance(value, dict) and value.get("path"):
            content = Path(value["path"]).read_bytes()
        if not isinstance(content, bytes):
            raise item.error(column, f"holds {type(content).__name__}, must hold an image")
        try:
            with Image.open(io.BytesIO(content)) as image:
                suffix = (image.format or "png").lower().replace("jpeg", "jpg")
        except (OSError, ValueError, SyntaxError) as error:
            raise item.error(column, f"is no image: {error}") from None
        path = inside(self.images, f"{name}.{suffix}")
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return path.relative_to(self.images).as_posix()

    def missing_files(self, *patterns: str) -> UserError:
        """The error to raise if files that a reader needs are missing."""
        return UserError(f"{self.key}.path={self.path}: holds none of {', '.join(patterns)}")


def is_hub_id(path: str) -> bool:
    """Whether a path has the form of a hub id, `owner/name`, and is no local file or folder."""
    parts = path.split("/")
    return len(parts) == 2 and all(parts) and not path.startswith((".", "~")) and not Path(path).exists()
