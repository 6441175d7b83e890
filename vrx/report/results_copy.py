"""Copies of finished runs without weights, caches and machine paths: what is committed of the runs behind a report."""

from __future__ import annotations

import dataclasses
import json
import lzma
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vrx.config.errors import UserError
from vrx.config.frozen import read_yaml
from vrx.config.schema import RuntimeConfig, WandbConfig
from vrx.evaluation.prediction_files import load_header
from vrx.report.collect import Run, find_runs
from vrx.runs.content_digest import weights_digest
from vrx.runs.files import read_json, write_atomic
from vrx.runs.importance_files import SAMPLE_SCORES_NAME, SCORES_NAME
from vrx.runs.results import compressed, is_copy
from vrx.runs.run_config import load_frozen
from vrx.runs.run_dir import RunDir

JOBS = ("finetune", "pretrain", "evaluate", "revert", "prune")
SHOWN_ROOT = "outputs"  # stands for the output root in a copy
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/,:;'\"]+/)+[^\s/,:;'\"]*")


def copy_results(root: Path, target: Path) -> int:
    """Copy every finished run of an output root, and the importance scores; returns the number of runs.

    Copied are configuration, record, layers, training curve and answers, the last two compressed. Paths are relative to
    the output root, or file names where they lie elsewhere; settings of machine and W&B are the defaults. The same runs
    give the same bytes. `UserError`, before anything is written, where the host's name, the home or an absolute path
    would remain.
    """
    root = root.absolute()
    runs = [run for run in find_runs(root) if run.folder.parts[-3] in JOBS and not is_copy(run.folder)]
    files: dict[Path, bytes] = {}
    for run in runs:
        files |= {run.folder.relative_to(root) / name: content for name, content in _files_of(run, root)}
    for folder in sorted(path.parent for path in root.glob(f"score/*/*/{SCORES_NAME}")):
        present = [folder / name for name in (SCORES_NAME, SAMPLE_SCORES_NAME) if (folder / name).is_file()]
        copied = {path.relative_to(root): _json(without_paths(read_json(path), root)) for path in present}
        files |= {**copied, RunDir(folder).copied.relative_to(root): _json({"command": "vrx score"})}
    for relative, content in files.items():
        _refuse_private(relative, content)
    for relative, content in files.items():
        path = target / relative
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, content)
    return len(runs)


def _files_of(run: Run, root: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a copy."""
    directory = RunDir(run.folder)
    yield directory.config.name, _config(directory.config, root)
    for path in (directory.record, directory.layers, directory.train_summary, directory.surgery):
        if path.is_file():
            yield path.name, _json(without_paths(read_json(path), root))
    if directory.train_log.is_file():
        yield compressed(directory.train_log).name, lzma.compress(directory.train_log.read_bytes(), preset=9)
    weights: set[str | None] = set()
    for name in run.record.scores:
        path = directory.predictions(name)
        header = load_header(path)
        if header is None:
            continue
        weights.add(header.weights)
        first = json.dumps(without_paths(json.loads(path.read_bytes().split(b"\n", 1)[0]), root)).encode()
        lines = [first, *path.read_bytes().split(b"\n")[1:]]
        yield f"answers/{compressed(path).name}", lzma.compress(b"\n".join(lines), preset=9)
    known = weights.pop() if len(weights) == 1 else None
    digest = known or weights_digest(load_frozen(directory.config).model, run.folder)
    yield directory.copied.name, _json({"weights": digest, "command": _command(run)})


def _command(run: Run) -> str:
    """The command that makes a run again, as far as it names what differs between the runs of a report."""
    record, job = run.record, run.folder.parts[-3]
    words = ["vrx", job, f"model={record.model.name}"]
    if record.layers:
        words.append(f"selector.layers=[{','.join(map(str, record.layers))}]")
        words += [f"data_fraction={record.data_fraction:g}", f"seed={record.seed or 0}"]
    for name in ("revert", "prune"):
        layers = record.reverted_layers if name == "revert" else record.pruned_layers
        words += [f"{name}.layers=[{','.join(map(str, layers))}]"] if layers is not None else []
    return " ".join(words)


def _config(path: Path, root: Path) -> bytes:
    """A frozen configuration without what belongs to a machine."""
    config = without_paths(read_yaml(path), root)
    if not isinstance(config, dict):
        raise UserError(f"{path}: not the configuration of a run")
    config["runtime"], config["wandb"] = dataclasses.asdict(RuntimeConfig()), dataclasses.asdict(WandbConfig())
    return yaml.safe_dump(config, sort_keys=False).encode()


def without_paths(value: Any, root: Path) -> Any:
    """A JSON value whose texts have no absolute path: those below the root are relative, of others the name stays."""
    if isinstance(value, dict):
        return {key: without_paths(part, root) for key, part in value.items()}
    if isinstance(value, list):
        return [without_paths(part, root) for part in value]
    return ABSOLUTE_PATH.sub(lambda match: _relative(match[0], root), value) if isinstance(value, str) else value


def _relative(path: str, root: Path) -> str:
    below = Path(path).is_relative_to(root)
    return f"{SHOWN_ROOT}/{Path(path).relative_to(root).as_posix()}" if below else Path(path).name


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _refuse_private(relative: Path, content: bytes) -> None:
    """Refuse a file that names this machine, or a path of it; what models answered is not looked at."""
    if relative.suffix == ".xz":
        content = lzma.decompress(content)
        content = content.split(b"\n", 1)[0] if relative.parent.name == "answers" else content
    text = content.decode()
    host = re.escape(socket.gethostname())
    for private in (ABSOLUTE_PATH.pattern, rf"\b{host}\b", rf"{re.escape(str(Path.home()))}\b"):
        if match := re.search(private, text):
            raise UserError(f"report.copy_to: {relative} would hold {match[0]!r}, which is of this machine alone")
