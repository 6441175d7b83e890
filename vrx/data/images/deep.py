"""Pictures with more than 8 bits a pixel and channel, such as X-rays and depth maps, which models take with 8."""

from __future__ import annotations

from PIL import Image

from vrx.config.errors import BadImage

LEVELS = 256  # of 8 bits
UNKNOWN_RANGE = ("I", "F")  # Pillow's modes of 32 bits: integers, floating-point numbers
NETPBM = "PPM"  # Pillow's format whose mode I is scaled to 16 bits


def is_16_bit(image: Image.Image) -> bool:
    """Whether an opened picture has grey levels of 16 bits; reads its header alone."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == NETPBM)


def as_8_bits(image: Image.Image) -> Image.Image | None:
    """Grey levels of 16 bits as 8 bits; None for a picture that has 8 bits already.

    `BadImage` for pixels of 32 bits outside of 0 to 255: what their white is, the file does not say.
    """
    if is_16_bit(image):
        return image.convert("I").point(lambda level: level / (LEVELS + 1)).convert("L")  # 65535 / 257 = 255
    if image.mode in UNKNOWN_RANGE:
        low, high = image.getextrema()
        if image.mode == "F" or not 0 <= low <= high < LEVELS:  # type: ignore[operator]
            kind = "floating-point" if image.mode == "F" else "32-bit"
            raise BadImage(f"{kind} pixels from {low:g} to {high:g}; convert it to 8 or 16 bits")
    return None
