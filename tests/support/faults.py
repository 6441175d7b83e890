"""Kills and losses of power at chosen points of a command: every rename and every sync below its folder is one.

The command runs once; `fault_hook/sitecustomize.py` keeps what is in the folder before each point. Three states follow
from that, each of which the same command has to mend when it is run again:

- kill: what is there before the point,
- contents lost: the same names, and every file cut to the size at which it was last synced,
- names lost: only names that were synced in their folder, and their files as in "contents lost".
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.forked import Commands
from support.whole_runs import ENVIRONMENT, SMALL, command

HOOK = Path(__file__).with_name("fault_hook")
WAYS = ("kill", "contents lost", "names lost")
OPTIONS = (
    "train.max_steps=4",
    "train.global_batch_size=2",
    "train.micro_batch_size=1",
    "train.dtype=float32",
    "engine.name=torch",
    "benchmark=[tiny_gqa]",
    "eval.limit=2",
)
TUNE = (*OPTIONS, "runtime.checkpoint_every=1", "lora.r=4", "lora.alpha=8", "layer_count=2")
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {  # the command that is disturbed comes last, after those it needs
    "finetune": (TUNE,),
    "finetune on two ranks": (TUNE, (*TUNE, "engine.name=deepspeed", "runtime.cpu_processes=2", "seed=1")),
    "pretrain": (
        TUNE,
        ("pretrain", *OPTIONS, "runtime.checkpoint_every=1"),
    ),
    "evaluate": (TUNE, ("evaluate", *OPTIONS, "benchmark=[tiny_mmlu,tiny_gqa]")),
    "score": ((*TUNE, "selector=all"), ("score", *TUNE, "score.samples_per_benchmark=2")),
    "prune": (TUNE, ("prune", *TUNE, "prune.layers=[5,7]")),
    "report": (TUNE, ("report",)),
    "sweep": (TUNE, (*TUNE, "-m", "seed=1,2")),
}


class Campaign:
    """The undisturbed course of one job in a folder, and what was there before each of its points."""

    def __init__(self, job: str, folder: Path, commands: Commands) -> None:
        *before, self.command = COMMANDS[job]
        self.root, self.notes, self.commands = folder / "root", folder / "notes", commands
        self.root.mkdir(parents=True)
        for needed in before:
            assert commands.run(_command(needed), self.root).returncode == 0, needed
        noted(_command(self.command)[1:], self.root, self.notes)
        self.expected = outcome(self.root)
        self.points = [line.strip() for line in (self.notes / "points").read_text().splitlines()]
        self._problems: dict[str, str | None] = {}  # by the digest of a state

    @property
    def num_states(self) -> int:
        """How many different states the points led to; a command is run once for each."""
        return len(self._problems)

    def disturb(self, number: int, way: str) -> str | None:
        """Run the command on what a kill or loss of power at a point, counted from 1, leaves; tells what is wrong."""
        shutil.rmtree(self.root)
        restore_state(self.notes, number, way, self.root)
        state = tree_digest(self.root)
        if state not in self._problems:
            self._problems[state] = self._problem_of_a_second_run()
        return self._problems[state]

    def _problem_of_a_second_run(self) -> str | None:
        try:
            again = self.commands.run(_command(self.command), self.root)
        except subprocess.TimeoutExpired:
            return "does not end"
        if again.returncode != 0:
            return f"status {again.returncode}: {again.stderr.strip().splitlines()[-1:]}"
        actual = outcome(self.root)
        different = sorted(key for key in self.expected.keys() | actual if self.expected.get(key) != actual.get(key))
        left = [str(path.relative_to(self.root)) for path in self.root.rglob(".*.partial")]
        return f"other {different}" if different else f"left {left}" if left else None


def noted(arguments: Sequence[str], root: Path, notes: Path) -> None:
    """Run the interpreter in a folder whose content counts as synced, and note what is there before each point.

    notes: a new folder for `points`, a line for each, and what `fault_hook/sitecustomize.py` keeps.
    """
    (notes / "kept").mkdir(parents=True)
    path = os.pathsep.join([str(HOOK), *filter(None, [ENVIRONMENT.get("PYTHONPATH")])])
    environment = {**ENVIRONMENT, "FAULT_ROOT": str(root), "FAULT_NOTES": str(notes), "PYTHONPATH": path}
    for command_line in (["-c", "import sitecustomize; sitecustomize.note_tree()"], arguments):
        subprocess.run([sys.executable, *command_line], cwd=root, env=environment, check=True, capture_output=True)


def restore_state(notes: Path, number: int, way: str, root: Path) -> None:
    """Make what a kill or loss of power at a point, counted from 1, leaves of a folder."""
    if way == "names lost":
        restore_names(notes, number, root)
        return
    shutil.copytree(notes / str(number), root, symlinks=True)
    if way == "contents lost":
        lose_contents(notes, number, root)


def read_synced(notes: Path, number: int) -> tuple[dict[int, int], dict[int, dict[str, int]]]:
    """What was on the disk before a point: sizes of files and names in folders, by inode."""
    sizes: dict[int, int] = {}
    names: dict[int, dict[str, int]] = {}
    num_lines = json.loads((notes / f"{number}.json").read_text())["num_lines"]
    for line_number, line in enumerate((notes / "synced").read_text().splitlines()[:num_lines], 1):
        note = json.loads(line)
        if "file" in note:
            sizes[note["file"]] = note["size"]
        elif "folder" in note:
            names[note["folder"]] = note["names"]
        elif (gone := note["gone"]) in names:  # what it held stays known, under a number that is no inode
            names[-line_number] = names.pop(gone)
            for entries in names.values():
                entries.update({name: -line_number for name, inode in entries.items() if inode == gone})
    return sizes, names


def lose_contents(notes: Path, number: int, root: Path) -> None:
    """Cut every file of a copy of what was there before a point to the size at which it was last synced."""
    sizes, _ = read_synced(notes, number)
    for name, inode in json.loads((notes / f"{number}.json").read_text())["inodes"].items():
        path = root / name
        if path.is_file() and path.stat().st_size > (size := sizes.get(inode, 0)):
            os.truncate(path, size)


def restore_names(notes: Path, number: int, root: Path) -> None:
    """Make what is left before a point of names and files that were synced."""
    sizes, names = read_synced(notes, number)
    noted = json.loads((notes / f"{number}.json").read_text())
    present = {inode: notes / str(number) / name for name, inode in noted["inodes"].items()}

    def restore(folder: Path, inode: int) -> None:
        folder.mkdir()
        for name, of_entry in names.get(inode, {}).items():
            source = present.get(of_entry, notes / "kept" / str(of_entry))
            if of_entry in names or source.is_dir():
                restore(folder / name, of_entry)
            elif source.is_file():
                shutil.copy2(source, folder / name)
                os.truncate(folder / name, min(source.stat().st_size, sizes.get(of_entry, 0)))
            else:
                (folder / name).touch()  # deleted since, and never synced

    restore(root, noted["root"])


def tree_digest(root: Path) -> str:
    """A digest of the names and contents below a folder."""
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        content = path.read_bytes() if path.is_file() else b"folder"
        whole.update(json.dumps([str(path.relative_to(root)), hashlib.sha256(content).hexdigest()]).encode())
    return whole.hexdigest()


def outcome(root: Path) -> dict[str, Any]:
    """What the commands in a folder have come to, without times: digests of weights, losses, scores, tables."""
    found: dict[str, Any] = {}
    for path in sorted((root / "outputs").rglob("*")):
        name = str(path.relative_to(root))
        if path.suffix in (".safetensors", ".tex") or path.parent.name == "official":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "train.jsonl":
            found[name] = [[row["step"], row["loss"]] for row in map(json.loads, path.read_text().splitlines())]
        elif path.name == "record.json":
            record = json.loads(path.read_text())
            found[name] = [record.get(key) for key in ("run_id", "identity", "layers", "selectors", "scores")]
        elif path.name == "scores.json":
            found[name] = json.loads(path.read_text())["scores"]
        elif path.is_dir() and path.name in ("checkpoint", "answers"):
            found[name] = sorted(file.name for file in path.iterdir())
    return found


def _command(overrides: Sequence[str]) -> list[str]:
    small = [item for item in SMALL if not item.startswith("world.")]
    return command(*overrides, *small, "world.num_images=16", "world.num_questions=2", small=False)
