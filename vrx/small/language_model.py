"""SmolLM2 from a GGUF file into a folder of plain safetensors and a tokenizer, laid out as on the Hub."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from vrx.config.errors import UserError

# of a configuration that was read from GGUF
GGUF_KEYS = ("quantization_config", "_name_or_path", "_model_name_or_path", "dtype")


def convert_language_model(gguf: Path, folder: Path) -> None:
    """Dequantize the weights of a GGUF file to fp32 and save model and tokenizer in `folder`.

    A model that transformers has read from GGUF cannot be saved, so its state moves into a bare one of its class.
    """
    auto_model: Any = AutoModelForCausalLM  # whose result is a pair here
    with _quiet():
        # which saves `local_files_only`: without it the folder, and so every run on it, would depend on HF_HUB_OFFLINE
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        quantized, loading_info = auto_model.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, output_loading_info=True
        )
    if loading_info["missing_keys"]:
        raise UserError(f"{gguf}: lacks {', '.join(sorted(loading_info['missing_keys'])[:3])}")
    fields = {key: value for key, value in quantized.config.to_dict().items() if key not in GGUF_KEYS}
    model = type(quantized)._from_config(type(quantized.config).from_dict(fields), dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with _quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of transformers and gguf, which go to stderr."""
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stderr(sink):
        yield
