"""Small pictures of questions, each stored once: in the page, or as files beside it where the page is too large."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from vrx.report.prediction_samples import thumbnail

MAX_PICTURES = 1500
SIDE = 120  # pixels
FOLDER = "pictures"  # beside the page


class Pictures:
    """The pictures of a page by number."""

    def __init__(self) -> None:
        self._numbers: dict[Path, int] = {}
        self.uris: list[str] = []  # data URIs

    def add(self, path: Path) -> int:
        """The number of a picture; -1 for one that cannot be read, or is one too many."""
        if path not in self._numbers:
            uri = thumbnail(path, SIDE) if len(self.uris) < MAX_PICTURES else ""
            self._numbers[path] = len(self.uris) if uri else -1
            self.uris += [uri] if uri else []
        return self._numbers[path]

    def files(self) -> dict[str, bytes]:
        """The pictures as files, by their path relative to the page, in the order of their numbers."""
        files: dict[str, bytes] = {}
        for number, uri in enumerate(self.uris):
            kind, _, encoded = uri.removeprefix("data:image/").partition(";base64,")
            content = base64.b64decode(encoded)
            files[f"{FOLDER}/{number}_{hashlib.sha256(content).hexdigest()[:12]}.{kind}"] = content
        return files
