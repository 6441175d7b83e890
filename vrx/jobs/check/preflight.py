"""Checks of the instruction data, the images, the benchmarks, the processes and optional packages.

Every failed check says how to mend it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vrx.config.errors import UserError, user_message
from vrx.config.job_options import required
from vrx.config.paths import inside
from vrx.config.schema import InstructionsConfig, RunConfig
from vrx.config.validate import validate_process_count
from vrx.data import run_data
from vrx.data.conversations import conversation_table
from vrx.data.conversations.conversation_mixture import MixedRows
from vrx.data.images.checks import image_errors
from vrx.data.instructions import instruction_dataset
from vrx.evaluation import benchmarks
from vrx.jobs.check.findings import Finding
from vrx.launch.gpus import gpu_models
from vrx.launch.workers import num_processes
from vrx.models.architecture import published_facts
from vrx.report.wandb_connection import resolve_mode
from vrx.runs.files import write_atomic
from vrx.runs.locks import shared_resource_lock

EXTRAS = {  # package: (extra that installs it, what needs it)
    "hydra_plugins.hydra_submitit_launcher": ("slurm", "hydra/launcher=submitit_slurm"),
    "wandb_workspaces": ("reports", "W&B reports"),
    "gradio": ("demo", "vrx demo"),
}
SHOWN = 10  # bad images printed; the file lists all


def data(run: RunConfig) -> tuple[list[Finding], Path | None]:
    """Checks the instruction data and their images, and converts the data.

    Returns the findings and the folder of the converted table, None where the data cannot be read.
    """
    config, root = run.instructions, run.runtime.output_path
    if _is_made_later(run, config.path, config.image_folder):
        return [Finding("instructions", f"{config.path} is made by the first run")], None
    try:
        digest = run_data.digest(run, root / "data")
        with shared_resource_lock(root / "data" / "instructions"):  # _images lists all bad ones
            table = run_data.build(run, root / "data", digest=digest, on_bad_image="skip")
    except (UserError, OSError) as error:
        published = published_facts()["instructions"].get(run.model.template)
        is_missing = config.path is None or not Path(config.path).is_file()
        advice = f"; run: {published['command']}" if published and is_missing else ""
        finding = _failure("instructions", error)
        return [dataclasses.replace(finding, message=finding.message + advice)], None
    rows, words = run_data.open_rows(run, table)
    counts = f"{len(rows):,} conversations, {int((words < 0).sum()):,} of them without image; sha256 {digest}"
    findings = [Finding("instructions", f"{_named(config)}: {counts}")]
    if isinstance(rows, MixedRows):
        findings += _images(run, {str(file): file for file in rows.picture_files()}, "pictures", root)
    elif config.image_folder is not None:
        folder = Path(config.image_folder)
        names = instruction_dataset.first_row_of_images(rows)  # type: ignore[arg-type]
        findings += _images(run, {name: inside(folder, name) for name in names}, str(folder), root)
    return findings, table


def _named(config: InstructionsConfig) -> str:
    return ", ".join(str(source.path) for source in conversation_table.sources(config).values())


def _is_made_later(run: RunConfig, path: str | None, image_folder: str | None) -> bool:
    """Whether a file of data that does not exist, and its pictures, are those that the model's world is made of."""
    if run.world is None or path is None or Path(path).exists():
        return False
    folder = Path(run.world.folder)
    if not Path(path).is_relative_to(folder) or not Path(image_folder or folder).is_relative_to(folder):
        return False
    of_world = re.compile(rf"instructions\.json|captions\.json|benchmarks/{run.world.name}_\w+\.jsonl")
    return of_world.fullmatch(Path(path).relative_to(folder).as_posix()) is not None


def _images(run: RunConfig, files: dict[str, Path], folder: str, root: Path) -> Iterator[Finding]:
    """Counts pictures by their folder; files: by their name in the data; folder: what holds them, for messages."""
    names = list(files)
    deep: list[Path] = []
    errors = image_errors(list(files.values()), decode=required(run.check).decode, deep=deep)
    bad = {names[index]: message for index, message in errors}
    is_fatal = run.instructions.on_bad_image == "error"
    totals, bad_counts = (Counter(str(PurePosixPath(name).parent) for name in group) for group in (names, bad))
    for subfolder, number in sorted(totals.items()):
        message = f"{number:,} images"
        if bad_counts[subfolder]:
            message += f", {bad_counts[subfolder]:,} missing or unreadable"
        source = published_facts()["images"].get(subfolder)
        if source and bad_counts[subfolder] == number:
            message += f"; get them from {source}"
        yield Finding(f"images {Path(folder) / subfolder}", message, bad=is_fatal and bad_counts[subfolder] > 0)
    if bad:
        list_path = root / "check" / "bad_images.txt"
        write_atomic(list_path, "".join(f"{message}\n" for message in bad.values()))
        for message in list(bad.values())[:SHOWN]:
            yield Finding("image", message, bad=is_fatal, note=True)
        policy = f"instructions.on_bad_image={run.instructions.on_bad_image}"
        advice = "repair them, or set instructions.on_bad_image to skip or replace" if is_fatal else policy
        yield Finding("images", f"{len(bad):,} bad, all listed in {list_path}; {advice}", bad=is_fatal, note=True)
    yield from _deep_images("images", deep)


def _deep_images(name: str, deep: list[Path]) -> Iterator[Finding]:
    if deep:
        message = f"{len(deep):,} with 16-bit grey levels, which are scaled to 8 bits; the first: {min(deep)}"
        yield Finding(name, message, note=True)


def questions(run: RunConfig) -> Iterator[Finding]:
    """Checks the questions of every benchmark and their images."""
    for name, config in run.benchmark.items():
        if _is_made_later(run, config.path, config.image_folder):
            yield Finding(f"benchmark.{name}", f"{config.path} is made by the first run")
            continue
        try:
            samples = benchmarks.samples(name, config, limit=run.eval.limit)
            images = sorted({sample.image for sample in samples if sample.image is not None})
            deep: list[Path] = []
            errors = list(image_errors(images, decode=required(run.check).decode, deep=deep))
            message = f"{len(samples):,} questions"
            if errors:
                message += f", {len(errors):,} of their {len(images):,} images bad, the first: {errors[0][1]}"
            yield Finding(f"benchmark.{name}", message, bad=bool(errors))
            yield from _deep_images(f"benchmark.{name}", deep)
        except (UserError, OSError) as error:
            yield _failure(f"benchmark.{name}", error)


def _failure(name: str, error: UserError | OSError) -> Finding:
    """The finding of an error that a user can correct; raises any other error, which is a bug."""
    message = user_message(error)
    if message is None:
        raise error
    return Finding(name, message.removeprefix(f"{name}."), bad=True)


def processes(run: RunConfig) -> tuple[int, Finding]:
    """The number of processes of a run, and whether the batch can be divided among them."""
    number = run.runtime.num_gpus or 1
    try:
        number = num_processes(run.runtime)
        validate_process_count(run, number)
    except UserError as error:
        return number, _failure("processes", error)
    gpus = gpu_models()
    return number, Finding("processes", f"{number} on {gpus[0].name if gpus else 'the CPU (no GPU)'}")


def environment(run: RunConfig) -> Iterator[Finding]:
    """The W&B mode, and packages that only some commands need."""
    mode = resolve_mode(run.wandb)
    notes = {"offline": "stored in the run directory until wandb login", "disabled": "by wandb.mode"}
    yield Finding("wandb", f"{mode}, {notes[mode]}" if mode in notes else mode)
    for module, (extra, purpose) in EXTRAS.items():
        try:
            is_installed = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            is_installed = False
        advice = f"not installed, needed only for {purpose}; run: pip install 'vrx[{extra}]'"
        yield Finding(f"package {extra}", "installed" if is_installed else advice)
