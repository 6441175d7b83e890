"""Missing and unreadable image files among hundreds of thousands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

THREADS = 16
FILES_PER_BATCH = 4096


def image_error(path: Path, *, decode: bool = False) -> str | None:
    """Why an image file cannot be used; None for a valid one. Reads the header, or with `decode` the full image."""
    try:
        with Image.open(path) as image:
            if decode:
                image.load()
    except FileNotFoundError:
        return f"{path} does not exist"
    except Exception as error:  # Pillow raises many kinds of errors for broken files
        return f"{path} is not readable: {error}"
    return None


def image_errors(paths: Sequence[Path], *, decode: bool = False) -> Iterator[tuple[int, str]]:
    """Index and error message of every bad file, in order; read by several threads, with a progress bar."""
    with ThreadPoolExecutor(THREADS) as threads, tqdm(total=len(paths), desc="images", delay=1, unit=" files") as bar:
        for start in range(0, len(paths), FILES_PER_BATCH):
            batch = paths[start : start + FILES_PER_BATCH]
            for number, message in enumerate(threads.map(lambda path: image_error(path, decode=decode), batch), start):
                bar.update()
                if message is not None:
                    yield number, message
