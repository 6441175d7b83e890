"""Missing and unreadable image files among hundreds of thousands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

THREADS = 16
AT_ONCE = 4096


def image_error(path: Path, *, decode: bool = False) -> str | None:
    """The fault of an image file, None for a good one. Reads the header, or with `decode` the whole file."""
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
    """Number and error message of every bad file, in order; several threads read under a progress bar."""
    with ThreadPoolExecutor(THREADS) as threads, tqdm(total=len(paths), desc="images", delay=1, unit=" files") as bar:
        for start in range(0, len(paths), AT_ONCE):
            part = paths[start : start + AT_ONCE]
            for number, message in enumerate(threads.map(lambda path: image_error(path, decode=decode), part), start):
                bar.update()
                if message is not None:
                    yield number, message
