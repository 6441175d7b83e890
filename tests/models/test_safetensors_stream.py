"""Files of tensors that are written one by one: the library reads the same from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vrx.models.safetensors_stream import write_tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_written_is_read_by_the_library(tmp_path: Path, dtype: torch.dtype):
    tensors = {
        "matrix": torch.randn(3, 5).to(dtype).T,  # not contiguous
        "ünï": torch.randn(7).to(dtype),
        "none": torch.empty(0, 4, dtype=dtype),
        "scalar": torch.tensor(2.5, dtype=dtype),
    }
    path = tmp_path / "model.safetensors"
    write_tensors(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.items(), dtype=dtype)
    stored = load_file(path)
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[name], tensor) and stored[name].dtype == dtype for name, tensor in tensors.items())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}  # transformers asks for it


def test_a_tensor_of_another_shape_is_never_written(tmp_path: Path):
    with pytest.raises(AssertionError, match="a"):
        write_tensors(tmp_path / "x", {"a": (2,)}, [("a", torch.zeros(3))], dtype=torch.float32)
