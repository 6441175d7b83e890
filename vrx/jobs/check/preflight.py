"""What a run needs before it begins: each thing looked at, and where one is not as it must be, what to do about it."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

from vrx.config.paths import inside
from vrx.config.schema import RunConfig
from vrx.data import instruction_dataset
from vrx.data.image_checks import image_errors
from vrx.evaluation import benchmarks
from vrx.jobs.check.model_files import Finding
from vrx.launch.gpus import gpu_numbers
from vrx.models.architecture import official
from vrx.report.wandb_run import resolve_mode
from vrx.runs.files import write_atomic
from vrx.runs.locks import shared_resource_lock

EXTRAS = {"hydra_plugins.hydra_submitit_launcher": "slurm", "wandb_workspaces": "reports"}
SHOWN = 10  # bad images on the terminal; all are in a file


def data(run: RunConfig) -> tuple[list[Finding], Path | None]:
    """The instruction data and their images; the folder of the table, which is made here, where they can be read."""
    config, root = run.instructions, Path(run.runtime.output_root).absolute()
    if run.world is not None and config.path and not Path(config.path).is_file():
        return [Finding("instructions", f"{config.path} is made by the first run")], None
    try:
        digest = instruction_dataset.data_digest(config, root / "data")
        lenient = dataclasses.replace(config, on_bad_image="skip")  # bad ones are all listed below
        with shared_resource_lock(root / "data" / "instructions"):
            table = instruction_dataset.table(lenient, root / "data", digest=digest)
    except (ValueError, OSError) as error:
        published = official()["instructions"].get(run.model.template)
        lacking = config.path is None or not Path(config.path).is_file()
        told = str(error).removeprefix("instructions.")
        way = f"; run: {published['command']}" if published and lacking else ""
        return [Finding("instructions", told + way, bad=True)], None
    rows = instruction_dataset.open_table(table)
    text_only = int((instruction_dataset.lengths(rows) < 0).sum())
    told = f"{config.path}: {len(rows):,} conversations, {text_only:,} of them without image; sha256 {digest}"
    names = list(instruction_dataset.images(rows))
    found = _images(run, names, Path(config.image_folder), root) if config.image_folder is not None else ()
    return [Finding("instructions", told), *found], table


def _images(run: RunConfig, names: list[str], folder: Path, root: Path) -> Iterator[Finding]:
    bad = {
        names[number]: why for number, why in image_errors([inside(folder, n) for n in names], decode=run.check.decode)
    }
    fatal = run.instructions.on_bad_image == "error"
    total, broken = (Counter(str(PurePosixPath(name).parent) for name in some) for some in (names, bad))
    for place, number in sorted(total.items()):
        way = official()["images"].get(place)
        told = f"{number:,} images" + (f", {broken[place]:,} missing or unreadable" if broken[place] else "")
        hint = f"; they come from {way}" if way and broken[place] == number else ""
        yield Finding(f"images {folder / place}", told + hint, bad=fatal and broken[place] > 0)
    if bad:
        listed = root / "check" / "bad_images.txt"
        write_atomic(listed, "".join(f"{why}\n" for why in bad.values()))
        for why in list(bad.values())[:SHOWN]:
            yield Finding("image", why)
        ways = "mend them, or instructions.on_bad_image=skip or replace" if fatal else run.instructions.on_bad_image
        yield Finding("images", f"{len(bad):,} bad, all listed in {listed}: {ways}", bad=fatal)


def questions(run: RunConfig) -> Iterator[Finding]:
    """Every benchmark: its questions and their images."""
    for name, config in run.benchmark.items():
        if run.world is not None and config.path and not Path(config.path).is_file():
            yield Finding(f"benchmark.{name}", f"{config.path} is made by the first run")
            continue
        try:
            found = benchmarks.samples(name, config, limit=run.eval.limit)
            bad = image_errors(sorted({s.image for s in found if s.image is not None}), decode=run.check.decode)
            first = next(bad, None)
            told = f"{len(found):,} questions" + (f", {first[1]}" if first else "")
            yield Finding(f"benchmark.{name}", told, bad=first is not None)
        except (ValueError, OSError) as error:
            yield Finding(f"benchmark.{name}", str(error).removeprefix(f"benchmark.{name}."), bad=True)


@cache
def gpus() -> list[tuple[str, float]]:
    """Name and memory in gigabytes of every GPU that a run may use."""
    numbers = gpu_numbers()
    if not numbers or not (tool := shutil.which("nvidia-smi")):
        return []
    query = [tool, f"--id={','.join(numbers)}", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    rows = [line.rpartition(",") for line in listed if "," in line]
    return [(name.strip(), float(memory) * 1048576 / 1e9) for name, _, memory in rows]


def surroundings(run: RunConfig) -> Iterator[Finding]:
    """W&B, and the packages of which not everyone needs all."""
    mode = resolve_mode(run.wandb)
    ways = {"offline": "kept in the run's directory, wandb login puts it online", "disabled": "by wandb.mode"}
    yield Finding("wandb", f"{mode}{f', {ways[mode]}' if mode in ways else ''}")
    for module, extra in EXTRAS.items():
        try:
            there = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            there = False
        way = (
            "installed"
            if there
            else f"not installed, needed only for what it is named after; pip install 'vrx[{extra}]'"
        )
        yield Finding(f"package {extra}", way)
