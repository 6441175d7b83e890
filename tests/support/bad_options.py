"""Option values that no command may take: each key of the schema out of its bounds, of another type, or misspelt."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

from support.bad_input_runner import REFUSED, BadInput, Scene
from support.bad_input_scenes import SMALL, link_world

from vrx.config.bounds import BOUNDS
from vrx.config.explain import OPTIONAL_SECTIONS
from vrx.config.schema import RunConfig

JOBS = ("evaluate", "score", "revert", "prune", "check", "bench", "report", "export", "ask", "compare", "pretrain")
LISTED = {  # keys of a text that takes a few values only
    "model.image_processor", "model.image_aspect_ratio", "model.vision_feature_select_strategy", "model.template",
    "model.architecture", "selector.rule", "selector.formula", "selector.kinds", "instructions.on_bad_image",
    "captions.on_bad_image", "captions.template", "train.loss_average", "train.dtype", "train.optimizer",
    "train.scheduler", "lora.init", "engine.name", "engine.compile", "wandb.mode", "prune.score", "export.dtype",
    "export.push_to_hub", "bench.dtype", "benchmark.tiny_gqa.family", "benchmark.tiny_gqa.metric",
    "benchmark.tiny_gqa.reader", "benchmark.tiny_gqa.aggregate", "benchmark.tiny_gqa.output_type",
    "benchmark.tiny_gqa.box_scale", "runtime.rendezvous",
}  # fmt: skip
NOT_TYPED = (
    "image",
    "question",
    "model.revision",
    "sweep.name",
    "job.name",
    "selector.name",
    "model.name",
    "recipe",
    "world.name",
)
QUOTING = ("[1", "{a: 1", "'a", '"a', "a: b: c", "[1,,2]", "${nowhere}", "${", "$(x)", "a=b", "1,2", "a b (", "@a,b]")
GROUPS = ("model", "selector", "layer_count", "data_fraction", "recipe", "job", "benchmark")


def options(rng: random.Random) -> Iterator[BadInput]:
    """Bad values of all kinds, each key once a round, without end."""
    keys = list(_keys(RunConfig, ""))
    while True:
        rng.shuffle(keys)
        for key, hint, bounds in keys:
            value = rng.choice(bad_values(key, hint, bounds))
            yield _input("option out of bounds" if bounds else "option of another type", key, f"{key}={value}")
            if rng.random() < 0.15:
                yield _input("option misspelt", key, _misspelt(rng, key))
            if rng.random() < 0.15:
                yield _input("option quoted wrongly", key, f"{key}={rng.choice(QUOTING)}")
        for group in GROUPS:
            yield _input(
                "unknown name", group, f"{group}={rng.choice(['nowhere', 'Tiny', '../x', '[]x', 'a/b', '7.5.1'])}"
            )


def bad_values(key: str, hint: Any, bounds: tuple[float, float] | None) -> list[str]:
    """Texts that a key must not take, by its declaration."""
    kinds = {get_origin(part) or part for part in (hint, *get_args(hint))}
    is_optional = type(None) in kinds
    never = ["{a: 1}", "[[1]]", "[{a: 1}]"] + ([] if is_optional else ["null"])
    if list in kinds:
        inner = next(get_args(part)[0] for part in (hint, *get_args(hint)) if get_origin(part) is list)
        if inner is str:
            return ["{a: 1}", "[[1]]", "[{a: 1}]", "7.5.1"]
        outside = [f"[{_number(bounds[0] - 1)}]", f"[{_number(bounds[1] * 2 + 2)}]"] if bounds else []
        return ["{a: 1}", "[[[1]]]", "[nan]", "[a]", "[null]", "word", *outside]
    if bounds:
        low, high = bounds
        outside = [_number(low - 1), _number(high * 2 + 1), f"1{'0' * 400}", f"-1{'0' * 400}"]
        return [*never, *outside, "nan", "inf", "-inf", ".inf", "word", "[1]", "1e400", "''", "0x"]
    if bool in kinds:
        return [*never, "maybe", "2", "[true]", "''"]
    return [*never, "[a]", *(["nowhere", "''", "-1.5"] if key in LISTED else [])]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _misspelt(rng: random.Random, key: str) -> str:
    parent, _, name = key.rpartition(".")
    place = rng.randrange(len(name))
    wrong = f"{parent + '.' if parent else ''}{name[:place]}{name[place + 1 :]}q"
    return rng.choice([f"{wrong}=1", f"+{wrong}=1", f"++{wrong}=1", f"{key}.deeper=1", f"~{key}", f"+{key}.x=1"])


def _keys(schema: Any, prefix: str) -> Iterator[tuple[str, Any, tuple[float, float] | None]]:
    """Dotted key, type and bounds of every field; `tiny_gqa` stands for a benchmark."""
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        nested = next((part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)), None)
        if nested is None and key not in NOT_TYPED and not key.startswith("job."):
            yield key, hint, field.metadata.get(BOUNDS)
        elif nested is not None and get_origin(hint) is dict:
            if field.name == "benchmark":
                yield from _keys(nested, f"{key}.tiny_gqa.")
        elif nested is not None:
            yield from _keys(nested, f"{key}.")


def _input(kind: str, key: str, override: str) -> BadInput:
    section = key.partition(".")[0]
    job = section if section in OPTIONAL_SECTIONS and section != "world" else "finetune"
    if section == "score_answers":
        job = "score-answers"
    if section == "captions":
        job = "pretrain"
    if key in ("image", "question"):
        job = "ask"
    name = key.rpartition(".")[2] if key not in GROUPS else key
    return BadInput(kind, override[:80], scene(job), frozenset({REFUSED}), (name, override[:20]), arguments=(override,))


def scene(job: str) -> Scene:
    """A command that only lists its run, so that nothing is done where it is not refused."""
    command = (job, "sweep.dry_run=true", *SMALL, "runtime.output_root=@/outputs")
    return Scene(f"option-{job}", command, link_world)
