"""Missing and unreadable image files among hundreds of thousands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from vrx.data.images.deep import as_8_bits, is_16_bit
from vrx.runs.files import refuse_pointer

THREADS = 16
FILES_PER_BATCH = 4096


def image_error(path: Path, *, decode: bool = False, deep: list[Path] | None = None) -> str | None:
    """Why an image file cannot be used; None for a valid one. Reads the header, or with `decode` the full image.

    deep: takes up the files whose grey levels of 16 bits are scaled to 8.
    """
    try:
        refuse_pointer(path)
        with Image.open(path) as image:
            if decode:
                image.load()
                as_8_bits(image)
            if deep is not None and is_16_bit(image):
                deep.append(path)
    except FileNotFoundError:
        return f"{path} does not exist"
    except Exception as error:  # Pillow raises many kinds of errors for broken files
        return f"{path} is not readable: {error}"
    return None


def image_errors(
    paths: Sequence[Path], *, decode: bool = False, deep: list[Path] | None = None
) -> Iterator[tuple[int, str]]:
    """Index and error message of every bad file, in order; read by several threads, with a progress bar.

    deep: as for `image_error`.
    """
    with ThreadPoolExecutor(THREADS) as threads, tqdm(total=len(paths), desc="images", delay=1, unit=" files") as bar:
        for start in range(0, len(paths), FILES_PER_BATCH):
            batch = paths[start : start + FILES_PER_BATCH]
            for number, message in enumerate(
                threads.map(lambda path: image_error(path, decode=decode, deep=deep), batch), start
            ):
                bar.update()
                if message is not None:
                    yield number, message
