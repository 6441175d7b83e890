"""The data of a benchmark as readers see it: files of the official download, or a data set of the hub with images."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.evaluation.dataset_files import read_json
from vrx.evaluation.dataset_items import Item, as_items
from vrx.runs.durable import partial_file

MAX_FILE_NAME = 200  # bytes, of the 255 that file systems allow
TABLE_FORMS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json"}  # of files


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
        self._saved: set[Path] = set()  # images
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
        value = getattr(self, option)
        if value not in valid:
            given = "null" if value is None else value
            raise UserError(f"{self.key}.{option}={given}: valid are {', '.join(valid)}")

    def items(self, records: object, of: str = "") -> Iterator[Item]:
        """Records as items; `of` names their part of the data in errors. Records must be JSON objects."""
        if isinstance(records, str | bytes) or not isinstance(records, Iterable):
            raise UserError(f"{self.key}: {of or 'its data'}: is {ascii(records)[:40]}, must be a list of objects")
        return as_items(records, f"{self.key}:{' ' + of if of else ''}")

    def document(self, path: Path) -> Item:
        """The JSON object that a file holds."""
        content = read_json(path)
        if not isinstance(content, dict):
            raise UserError(f"{self.key}: {path}: is {ascii(content)[:40]}, must be an object")
        return Item(content, f"{self.key}: {path}")

    def records(self, path: Path, column: str, of: str = "") -> Iterator[Item]:
        """The records of the list that the JSON object of a file has in a column; `of` as in `items`."""
        content = self.document(path)
        if not isinstance(content[column], list):
            raise content.error(column, f"is {ascii(content[column])[:40]}, must be a list")
        return self.items(content[column], of)

    def named_records(self, path: Path) -> Iterator[tuple[str, Item]]:
        """The records of a JSON object by name, in its order."""
        content = self.document(path)
        return zip(content, self.items(content.values()), strict=True)

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
            else:
                has_subsets = not folder.is_dir() or (folder / "README.md").is_file()  # a folder without one has none
                part, at = subset if has_subsets else None, self.revision
                if self.split is None:  # load_dataset would give all splits
                    self.require("split", *datasets.get_dataset_split_names(self.path, part, revision=at))
                data = datasets.load_dataset(self.path, part, split=self.split, revision=at)
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

    def save_image(self, item: Item, name: str) -> str:
        """Write a record's image into `images`, byte by byte; returns `name` with the file's suffix.

        The first record with a name decides on its image. A file of an earlier conversion, which was not finished, is
        replaced. `name` must not leave the folder.
        """
        value = item["image"]
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None and isinstance(value, dict) and value.get("path"):
            content = Path(value["path"]).read_bytes()
        if not isinstance(content, bytes):
            raise item.error("image", f"holds {type(content).__name__}, must hold an image")
        try:
            with Image.open(io.BytesIO(content)) as image:
                suffix = (image.format or "png").lower().replace("jpeg", "jpg")
        except (OSError, ValueError, SyntaxError) as error:
            raise item.error("image", f"is no image: {error}") from None
        if len(name.encode(errors="replace")) > MAX_FILE_NAME or "\0" in name:
            raise UserError(f"{item.label}: {ascii(name)[:40]}…, the name of its image, is none of a file")
        path = inside(self.images, f"{name}.{suffix}")
        if path not in self._saved:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = partial_file(path)  # not write_atomic, which waits for the disk and lists the folder
            partial.write_bytes(content)
            partial.replace(path)
            self._saved.add(path)
        return path.relative_to(self.images).as_posix()

    def missing_files(self, *patterns: str) -> UserError:
        """The error to raise if files that a reader needs are missing."""
        return UserError(f"{self.key}.path={self.path}: holds none of {', '.join(patterns)}")


def is_hub_id(path: str) -> bool:
    """Whether a path has the form of a hub id, `owner/name`, and is no local file or folder."""
    parts = path.split("/")
    return len(parts) == 2 and all(parts) and not path.startswith((".", "~")) and not Path(path).exists()
