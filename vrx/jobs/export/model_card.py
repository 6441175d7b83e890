"""The model card of an export: what was tuned on what, what it scores, how it is loaded."""

from __future__ import annotations

import re
from html import escape
from pathlib import PurePath

from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.runs.hub import HUB_ID
from vrx.runs.layer_selection import format_layers
from vrx.runs.record import Record, ScoreEntry

PARTS = {"lvlm": "checkpoint", "backbone": "backbone", "vision_tower": "vision tower", "projector": "projector"}
MODEL = """\
```python
from transformers import pipeline

pipe = pipeline("image-text-to-text", model="{title}", dtype="{dtype}")
content = [{{"type": "image", "url": "picture.png"}}, {{"type": "text", "text": "What is in the picture?"}}]
print(pipe(text=[{{"role": "user", "content": content}}], return_full_text=False, max_new_tokens=64))
```

`"{title}"` is this folder, seen from the one above it. The chat template renders the prompts that the model was asked
with. Pixels and token ids are those of the measurement where pictures are processed by Pillow. With torchvision
installed, which transformers asks for where a processor also reads videos, this keeps them so:

```python
from transformers import AutoImageProcessor, AutoProcessor

processor = AutoProcessor.from_pretrained("{title}")
processor.image_processor = AutoImageProcessor.from_pretrained("{title}", backend="pil")
```

Two things differ from the measurement: the pipeline rotates photographs by their EXIF orientation, and reads the name
of the picture's token in a question as a picture.
"""
ADAPTER = """\
```python
import peft

tuned = peft.PeftModel.from_pretrained(base, "{title}")  # LoRA and what was trained beside it
```

`base` is the model before tuning, as `vrx export` writes it without `job.run`: read it with
`AutoModelForImageTextToText.from_pretrained`.
"""


def model_card(run: RunConfig, record: Record | None, *, title: str) -> str:
    """Markdown with the header that the hub reads; the licence is left to whoever shares the model."""
    options, model = required(run.export), run.model
    parts = {label: getattr(model, key) for key, label in PARTS.items() if getattr(model, key)}
    hub_ids = [name for name in parts.values() if re.fullmatch(HUB_ID, name)]
    header = [
        "---",
        f"library_name: {'peft' if options.adapter else 'transformers'}",
        "pipeline_tag: image-text-to-text",
    ]
    header += ["base_model:", *(f"- {name.partition('@')[0]}" for name in hub_ids)] if hub_ids else []
    header += ["# license: to be chosen; the terms of the parts and of the data apply", "---"]
    facts = [f"# {title}", "", *_about(run, record), ""]
    facts += [f"- {label}: {_shown(name)}" for label, name in parts.items()]
    facts += [f"- conversation template: {model.template}", ""]
    facts += _scores(record) if record is not None else []
    lines = [*header, *(escape(line, quote=False) for line in facts)]  # names are text, never HTML
    usage = (ADAPTER if options.adapter else MODEL).format(title=title, dtype=options.dtype or run.train.dtype)
    lines += ["## Use", "", usage, "## Licence", ""]
    lines += ["Not chosen yet. The licences of the parts above and of the training data limit the choice.", ""]
    return "\n".join(lines)


def _about(run: RunConfig, record: Record | None) -> list[str]:
    """What was done to the model."""
    if record is None or record.is_base_model:
        return [f"{run.model.name} as it was before tuning."]
    lines = [
        f"{run.model.name} with {len(record.layers)} of its {record.model.num_layers} decoder layers tuned by LoRA:"
    ]
    lines += [f"layers {format_layers(record.layers)} (counted from 0), r={run.lora.r}, alpha={run.lora.alpha}."]
    if record.reverted_layers:
        lines.append(f"Layers {format_layers(record.reverted_layers)} have the weights of before the tuning again.")
    if record.pruned_layers:
        lines.append(f"Layers {format_layers(record.pruned_layers)} were removed.")
    data = record.identity.get("data", {})
    lines += ["", f"- data: {100 * record.data_fraction:g} % of the conversations with sha256 `{data.get('sha256')}`"]
    lines += [f"- seed: {record.seed}", f"- run: `{record.run_id}`"]
    if record.train is not None and record.train.steps:
        lines.append(f"- steps: {record.train.steps}")
    return lines


def _scores(record: Record) -> list[str]:
    """A table of the scores in percent; none where nothing was scored."""
    if not record.scores:
        return ["Not scored.", ""]
    lines = [
        "## Scores",
        "",
        "In percent, with the standard error over the questions and what blind guessing scores.",
        "",
    ]
    lines += ["| benchmark | score | chance | questions |", "|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {_value(entry)} | {_percent(entry.chance)} | {entry.num_samples} |"
        for name, entry in record.scores.items()
    ]
    return [*lines, ""]


def _value(entry: ScoreEntry) -> str:
    if entry.perplexity is not None:
        return f"perplexity {entry.perplexity['token']:.4g} by token"
    return f"{100 * entry.value:.1f} ±{100 * entry.stderr:.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _shown(name: str) -> str:
    """A hub id, or the last folders of a path: not where it lies on this machine."""
    return name if re.fullmatch(HUB_ID, name) else "/".join(PurePath(name).parts[-2:])
