"""Writing a file of safetensors tensor by tensor; the library's own `save_file` takes and copies all of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
ALIGNMENT = 8  # of the first tensor, in bytes


def write_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[tuple[str, Tensor]], *, dtype: torch.dtype
) -> None:
    """Write tensors of one dtype as a file that `safetensors` and transformers read; each is released once written.

    shapes: of all tensors. tensors: the same names in the same order, each with its tensor on the CPU.
    Format: github.com/huggingface/safetensors, "Format" in README.md.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for (name, tensor), expected in zip(tensors, shapes, strict=True):
            assert (name, tuple(tensor.shape), tensor.dtype) == (expected, shapes[expected], dtype), name
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
