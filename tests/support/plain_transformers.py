"""Run by a Python without vrx: answers questions with exported folders, by classes of transformers and PEFT alone.

    python plain_transformers.py questions.json answers.json

questions.json: a list of {folder: of an export, base: of the model that the adapter in it belongs to, or none,
questions: pairs of a picture and a question}. answers.json: for each of them and each question the ids of the prompt
and those of the answer, some logits, and for the first questions the ids of both by the pipeline.

VRX_TORCHVISION names a folder with torchvision, which transformers wants for processors that also read videos.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

NUM_NEW_TOKENS = 4
BY_PIPELINE = 4  # questions
LOGITS = 300  # an answer may be the same by chance, these are not
TORCHVISION = os.environ.get("VRX_TORCHVISION")


def add_torchvision(folder: str) -> None:
    """Its operators may be built for another torch than the one here; no processor of pictures uses them."""
    sys.path.append(folder)
    for name in ("torchvision._meta_registrations", "torchvision._autograd_registrations"):
        sys.modules[name] = ModuleType(name)


def load_processor(folder: str) -> Any:
    from transformers import AutoImageProcessor, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    if TORCHVISION:
        processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor


def load_model(folder: str, base: str | None) -> Any:
    import peft
    from transformers import AutoModelForImageTextToText

    model, info = AutoModelForImageTextToText.from_pretrained(base or folder, dtype="auto", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return peft.PeftModel.from_pretrained(model, folder).eval() if base else model


def picture(path: str) -> dict[str, Any]:
    from PIL import Image

    if TORCHVISION:  # reads files itself, by operators that may be missing
        return {"type": "image", "image": Image.open(path).convert("RGB")}
    return {"type": "image", "url": path}


def answer(model: Any, inputs: Any) -> dict[str, Any]:
    """The ids of a prompt and of the greedy answer, and some logits of the first one of the answer."""
    output = model.generate(
        **inputs, do_sample=False, max_new_tokens=NUM_NEW_TOKENS, output_logits=True, return_dict_in_generate=True
    )
    prompt, ids = inputs["input_ids"][0].tolist(), output.sequences[0].tolist()
    return {"prompt": prompt, "answer": ids[len(prompt) :], "logits": output.logits[0][0, :LOGITS].tolist()}


def answers(folder: str, base: str | None, questions: list[list[str]]) -> list[dict[str, Any]]:
    import torch
    from transformers import pipeline

    processor, model = load_processor(base or folder), load_model(folder, base)
    options = {"processor": processor} if TORCHVISION else {}
    pipe = None if base else pipeline("image-text-to-text", model=folder, dtype="auto", **options)
    rows = []
    for number, (image, question) in enumerate(questions):
        messages = [{"role": "user", "content": [picture(image), {"type": "text", "text": question}]}]
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            rows.append(answer(model, inputs))
        if pipe is not None and number < BY_PIPELINE:
            (generated,) = pipe(text=messages, return_tensors=True, max_new_tokens=NUM_NEW_TOKENS)
            rows[-1]["pipeline"] = generated["generated_token_ids"].tolist()
    return rows


if __name__ == "__main__":
    if TORCHVISION:
        add_torchvision(TORCHVISION)
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = [answers(**entry) for entry in asked]
    assert not [name for name in sys.modules if name.partition(".")[0] == "vrx"]
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
