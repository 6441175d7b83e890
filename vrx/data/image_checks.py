"""Image files by the hundred thousand: which of them are missing or cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

THREADS = 16
AT_ONCE = 4096


def image_error(path: Path, *, decode: bool = False) -> str | None:
    """What is wrong with an image file, if anything; its header is read, with `decode` all of it."""
    try:
        with Image.open(path) as image:
            if decode:
                image.load()
    except FileNotFoundError:
        return f"{path} does not exist"
    except Exception as error:  # what a broken file makes Pillow raise is of many kinds
        return f"{path} is not readable: {error}"
    return None


def image_errors(paths: Sequence[Path], *, decode: bool = False) -> Iterator[tuple[int, str]]:
    """Number and complaint of every bad file, in order; files are read by several threads at once, under a bar."""
    with ThreadPoolExecutor(THREADS) as threads, tqdm(total=len(paths), desc="images", delay=1, unit=" files") as bar:
        for start in range(0, len(paths), AT_ONCE):
            part = paths[start : start + AT_ONCE]
            for number, told in enumerate(threads.map(lambda path: image_error(path, decode=decode), part), start):
                bar.update()
                if told is not None:
                    yield number, told
