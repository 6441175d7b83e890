"""Run by a Python without vrx: answers questions with exported folders, by classes of transformers alone.

    python plain_transformers.py questions.json answers.json

questions.json: folder of an export -> pairs of a picture and a question. answers.json: folder -> for each question the
ids of the prompt, those of the answer, and those of both by the pipeline.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NUM_NEW_TOKENS = 12


def answers(folder: str, questions: list[list[str]]) -> list[dict[str, Any]]:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

    processor = AutoProcessor.from_pretrained(folder)
    model, info = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    pipe = pipeline("image-text-to-text", model=folder, dtype="auto")
    rows = []
    for image, question in questions:
        content = [{"type": "image", "url": image}, {"type": "text", "text": question}]
        messages = [{"role": "user", "content": content}]
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=NUM_NEW_TOKENS)
        prompt_length = inputs["input_ids"].shape[1]
        (told,) = pipe(text=messages, return_tensors=True, max_new_tokens=NUM_NEW_TOKENS)
        rows.append(
            {
                "prompt": inputs["input_ids"][0].tolist(),
                "answer": output[0, prompt_length:].tolist(),
                "pipeline": told["generated_token_ids"].tolist(),
            }
        )
    return rows


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = {folder: answers(folder, questions) for folder, questions in asked.items()}
    assert not [name for name in sys.modules if name.partition(".")[0] == "vrx"]
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
