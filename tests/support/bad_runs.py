"""What a finished run left, damaged or of another form, before a command that reads it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.bad_bytes import ANY_FILE, ANYHOW, JSON_TEXT, NO, shuffled_value
from support.bad_input_runner import BadInput, Scene
from support.bad_input_scenes import SMALL, STEPS, link_run, replace, run_of
from support.mutations import UNREADABLE_YAML

RUN = "@/run"
OPTIONS = (*SMALL, "runtime.output_root=@/outputs")
ASKED = ("image=none", "question=What is red?")


def prepare(folder: Path) -> None:
    link_run(folder)
    (folder / "run").symlink_to(run_of(folder))


SCENES = {
    "report": Scene("run-report", ("report", *OPTIONS), prepare),
    "evaluate": Scene("run-evaluate", ("evaluate", *OPTIONS, f"job.run={RUN}"), prepare),
    "finetune": Scene("run-finetune", ("finetune", *OPTIONS, *STEPS), prepare),
    "prune": Scene("run-prune", ("prune", *OPTIONS, "prune.layers=[1]", "prune.save=false", f"job.run={RUN}"), prepare),
    "revert": Scene("run-revert", ("revert", *OPTIONS, "sweep.dry_run=true", f"job.run={RUN}"), prepare),
    "export": Scene("run-export", ("export", *OPTIONS, "export.adapter=true", f"job.run={RUN}"), prepare),
    "ask": Scene("run-ask", ("ask", *OPTIONS, *ASKED, f"job.run={RUN}", "ask.max_new_tokens=3"), prepare),
    "compare": Scene("run-compare", ("compare", *OPTIONS, *ASKED, f"compare.runs=[{RUN}]"), prepare),
    "score-answers": Scene(
        "run-score", ("score-answers", *OPTIONS, f"job.run={RUN}", "score_answers.write_to=@/to"), prepare
    ),
}
READ_BY = {  # the commands that need a file, and cannot do without it
    "record.json": ("evaluate", "revert", "export", "ask", "compare", "score-answers"),
    "config.yaml": ("evaluate", "revert", "ask", "compare"),
    "adapter/adapter_config.json": ("export", "ask"),
    "adapter/adapter_model.safetensors": ("export", "ask"),
    "adapter/projector.safetensors": ("ask",),
    "answers/tiny_gqa.jsonl": (),
    "train.json": (),
    "layers.json": (),
    "train.jsonl": (),
    "data.json": (),
}
YAMLS: dict[str, str | bytes] = {
    **UNREADABLE_YAML,
    "nested": "[" * 20_000,
    "a list": "- 1\n- 2\n",
    "a text": "hello\n",
    "empty": "",
    "number": "3",
    "tab": "model:\n\t- x\n",
    "no UTF-8": "model: é".encode("latin-1"),
    "twice the same key": "model: {name: tiny}\nmodel: {name: other}\n",
    "newer": "schema_version: 999\n",
    "interpolation": "schema_version: 7\nmodel: ${oc.env:HOME}\n",
    "merge key": "a: {<<: 3}\n",
}


def run_files(rng: random.Random) -> Iterator[BadInput]:
    """The files of a run, before each command that reads them."""
    while True:
        file = rng.choice(list(READ_BY))
        jobs = READ_BY[file]
        ways = [*ANY_FILE, *((what, ANYHOW, change) for what, _, change in JSON_TEXT if file.endswith("n"))]
        what, expected, change = rng.choice(ways)
        job = rng.choice(jobs or ("report", "finetune", "score-answers"))
        if not jobs or expected != NO:
            expected = ANYHOW
        yield _changed(job, file, what, expected, change, rng)
        if jobs:
            yield _changed("report", file, what, ANYHOW, change, rng)
        yield _record(rng)
        what = rng.choice(list(YAMLS))
        yield _put(rng.choice(READ_BY["config.yaml"]), "config.yaml", what, NO, YAMLS[what])
        yield _config(rng)
        yield _lines(rng)


def _record(rng: random.Random) -> BadInput:
    """A value of the record taken away or of another form."""
    job = rng.choice(["report", "report", "ask", "export", "score-answers", "compare", "evaluate", "revert"])
    seed = rng.random()

    def change(folder: Path) -> None:
        path = folder / "run" / "record.json"
        replace(
            run_of(folder) / "record.json",
            json.dumps(shuffled_value(json.loads(path.read_text()), random.Random(seed))[1]),
        )

    return BadInput("run record", f"{job}: place {seed:.4f}", SCENES[job], ANYHOW, ("record.json", "run", "@"), change)


def _config(rng: random.Random) -> BadInput:
    """A line of config.yaml taken away, or with another value."""
    job, seed = rng.choice(READ_BY["config.yaml"]), rng.random()
    new = rng.choice([" nan", " [[1]]", " -1", " {a: 1}", " !!binary x", " 'a", " null", ' "\\ud800"', None])

    def change(folder: Path) -> None:
        path, own = run_of(folder) / "config.yaml", random.Random(seed)
        lines = path.read_text().splitlines()
        place = own.randrange(len(lines))
        lines[place : place + 1] = [] if new is None else [lines[place].partition(":")[0] + ":" + new]
        replace(path, "\n".join(lines) + "\n")

    return BadInput(
        "run config", f"{job}: line {seed:.4f} {new}", SCENES[job], ANYHOW, ("config.yaml", "run", "@"), change
    )


def _lines(rng: random.Random) -> BadInput:
    """A line of the answers, of the log or of the chosen layers of another form."""
    file = rng.choice(["answers/tiny_gqa.jsonl", "train.jsonl", "layers.json", "train.json", "data.json"])
    job, seed = rng.choice(["report", "finetune", "score-answers", "evaluate"]), rng.random()

    def change(folder: Path) -> None:
        path, own = run_of(folder) / file, random.Random(seed)
        if path.suffix == ".json":
            replace(path, json.dumps(shuffled_value(json.loads(path.read_text()), own)[1]))
            return
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = shuffled_value(rows, own)[1]
        replace(path, "".join(json.dumps(row) + "\n" for row in rows))

    return BadInput("run rows", f"{job}: {file} {seed:.4f}", SCENES[job], ANYHOW, (Path(file).name, "run", "@"), change)


def _changed(job: str, file: str, what: str, expected: Any, change: Any, rng: random.Random) -> BadInput:
    seed = rng.random()

    def damage(folder: Path) -> None:
        path = run_of(folder) / file
        replace(path, change(path.read_bytes(), random.Random(seed)))

    return BadInput("run file", f"{job}: {file} {what}", SCENES[job], expected, (Path(file).name, "run", "@"), damage)


def _put(job: str, file: str, what: str, expected: Any, content: str | bytes) -> BadInput:
    put = lambda folder: replace(run_of(folder) / file, content)  # noqa: E731
    return BadInput("run YAML", f"{job}: {file} {what}", SCENES[job], expected, (file,), put)
