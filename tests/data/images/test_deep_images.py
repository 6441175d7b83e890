"""Pictures of more than 8 bits a pixel, and damaged ones of every format."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from vrx.config.errors import BadImage
from vrx.data.images.checks import image_errors
from vrx.data.images.processing import open_rgb

RAMP = np.tile(np.linspace(0, 65535, 48, dtype=np.uint16), (48, 1))
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8))
FORMATS = ["PNG", "JPEG", "WEBP", "DDS", "GIF", "BMP", "TIFF", "ICO", "PPM"] + ["AVIF"] * bool(features.check("avif"))


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif", "ramp.pgm"])
def test_16_bit_grey_levels_are_scaled_and_told(tmp_path: Path, name: str):
    path = tmp_path / name
    if path.suffix == ".pgm":
        path.write_bytes(b"P5 48 48 65535\n" + RAMP.astype(">u2").tobytes())
    else:
        Image.fromarray(RAMP).save(path)
    levels = np.asarray(open_rgb(path))[0, :, 0]
    assert np.abs(levels - RAMP[0] / 257).max() < 1
    deep: list[Path] = []
    assert list(image_errors([path], decode=True, deep=deep)) == [] and deep == [path]


@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_pixels_whose_white_is_not_known_are_refused(tmp_path: Path, kind: str):
    Image.fromarray(RAMP.astype(kind)).save(tmp_path / "ramp.tif")
    with pytest.raises(BadImage, match=r"ramp\.tif: .* pixels from 0 to 65535; convert it to 8 or 16 bits"):
        open_rgb(tmp_path / "ramp.tif")
    assert len(list(image_errors([tmp_path / "ramp.tif"], decode=True))) == 1


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_picture_is_read_or_refused_by_name(tmp_path: Path, data: st.DataObject):
    file = io.BytesIO()
    PICTURE.save(file, data.draw(st.sampled_from(FORMATS)))
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, min(80, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path = tmp_path / "picture"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        assert open_rgb(path).mode == "RGB"
    except BadImage as error:
        assert str(error).startswith(f"{path}: ")
