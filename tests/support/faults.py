"""Kills and losses of power at chosen points of a command: every rename and every sync below its folder is one.

The command's processes load `HOOK` as their `sitecustomize`. It numbers the renames and syncs of all of them together,
kills all at the chosen one, before it happens, and notes what was synced.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.whole_runs import ENVIRONMENT, SMALL, command

HOOK = """
import os, signal, sys
LOG, ROOT, SIZE = os.environ["FAULT_LOG"], os.environ["FAULT_ROOT"], 400
log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
synced = os.open(LOG + ".synced", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def point(kind, path):
    if not str(path).startswith(ROOT):
        return
    os.write(log, f"{kind} {os.path.relpath(path, ROOT)}".encode()[: SIZE - 1].ljust(SIZE - 1) + b"\\n")
    if os.lseek(log, 0, os.SEEK_CUR) // SIZE == int(os.environ["FAULT_AT"]):
        os.killpg(os.getpgid(0), signal.SIGKILL)

def on_event(event, arguments):
    if event == "os.rename":
        point("rename", arguments[1])

def fsync(file):
    number = file if isinstance(file, int) else file.fileno()
    point("sync", os.readlink(f"/proc/self/fd/{number}"))
    real_fsync(file)
    state = os.fstat(number)
    os.write(synced, f"{state.st_ino} {state.st_size}\\n".encode())

def sync():
    point("sync", ROOT)
    real_sync()
    for folder, _, names in os.walk(ROOT):
        for name in names:
            state = os.stat(os.path.join(folder, name))
            os.write(synced, f"{state.st_ino} {state.st_size}\\n".encode())

real_fsync, os.fsync, real_sync, os.sync = os.fsync, fsync, os.sync, sync
sys.addaudithook(on_event)
"""
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
    "pretrain": (("pretrain", *OPTIONS, "runtime.checkpoint_every=1"),),
    "evaluate": (TUNE, ("evaluate", *OPTIONS, "benchmark=[tiny_mmlu,tiny_gqa]")),
    "score": (TUNE, ("score", *TUNE, "score.samples_per_benchmark=2")),
    "prune": (TUNE, ("prune", *TUNE, "prune.layers=[5,7]")),
    "report": (TUNE, ("report",)),
    "sweep": ((*TUNE, "-m", "seed=0,1"),),
}


class Campaign:
    """The undisturbed course of one job in a folder of its own, and its disturbed courses beside it."""

    def __init__(self, job: str, folder: Path) -> None:
        *before, self.command = COMMANDS[job]
        self.folder, self.start = folder, folder / "start"
        (folder / "hook").mkdir(parents=True)
        (folder / "hook" / "sitecustomize.py").write_text(HOOK)
        self.start.mkdir()
        for needed in before:
            subprocess.run(_command(needed), cwd=self.start, env=ENVIRONMENT, check=True, capture_output=True)
        calm = self._copy("calm")
        assert self._run(calm, at=0) == 0
        self.expected = outcome(calm)
        self.points = (folder / "calm.log").read_text().splitlines()

    def disturb(self, number: int, *, power: bool) -> str | None:
        """Kill the command at a point, counted from 1, and run it again; returns what is wrong with the result.

        power: what was not synced is lost as well.
        """
        root = self._copy(f"at-{number}-{'power' if power else 'kill'}")
        self._run(root, at=number)
        if power:
            lose_unsynced(root, Path(f"{root}.log.synced"))
        again = subprocess.run(
            _command(self.command), cwd=root, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        left = [str(path.relative_to(root)) for path in root.rglob(".*.partial")]
        actual = outcome(root)
        shutil.rmtree(root)
        if again.returncode != 0:
            return f"status {again.returncode}: {again.stderr.strip().splitlines()[-1:]}"
        different = sorted(key for key in self.expected.keys() | actual if self.expected.get(key) != actual.get(key))
        return f"other {different}" if different else f"left {left}" if left else None

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.start, self.folder / name))

    def _run(self, root: Path, *, at: int) -> int:
        fault = {"FAULT_AT": str(at), "FAULT_LOG": f"{root}.log", "FAULT_ROOT": str(root)}
        path = os.pathsep.join([str(self.folder / "hook"), *filter(None, [ENVIRONMENT.get("PYTHONPATH")])])
        environment = {**ENVIRONMENT, **fault, "PYTHONPATH": path}
        options: dict[str, Any] = {"cwd": root, "env": environment, "start_new_session": True}
        return subprocess.run(_command(self.command), capture_output=True, check=False, **options).returncode


def lose_unsynced(root: Path, synced: Path) -> None:
    """Cut every file back to the size at which it was last synced, as a file system may do after a loss of power."""
    lines = synced.read_text().split() if synced.is_file() else []
    sizes = dict(zip(map(int, lines[::2]), map(int, lines[1::2]), strict=True))
    for path in root.rglob("*"):
        if path.is_file() and path.stat().st_size > (size := sizes.get(path.stat().st_ino, 0)):
            os.truncate(path, size)


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
