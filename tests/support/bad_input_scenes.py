"""Good files that bad inputs are made from: a small world, and a finished run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.bad_input_runner import in_fork
from support.family_checkpoints import build

from vrx.config.paths import PACKAGE

SMALL = ("world.num_images=48", "world.num_questions=6", "wandb.mode=disabled", "benchmark=[tiny_gqa,tiny_mmlu]")
STEPS = ("train.max_steps=2", "train.global_batch_size=4", "train.micro_batch_size=2", "engine.name=torch", "seed=3")
MODELS = {
    "tiny": PACKAGE / "tiny" / "weights",
    "llava": Path(__file__).parents[1] / "golden" / "official_models" / "llava_official",
}
ROOT = Path(os.environ.get("VRX_BAD_INPUTS", "bad_inputs"))  # set by `bad_inputs.py`


def make_good(root: Path) -> None:
    """The world, a finished run of it, and copies of models below `root`, for all inputs."""
    for name, source in MODELS.items():
        shutil.copytree(source, root / "good" / name)
    build("smolvlm", root / "good" / "smolvlm")
    status, _ = in_fork(["finetune", *SMALL, *STEPS, f"runtime.output_root={root / 'good' / 'outputs'}"], root / "good")
    assert status == 0, (root / "good" / "stderr.txt").read_text()


def link_model(name: str, target: Path) -> None:
    """A model or one of its parts."""
    link(ROOT / "good" / name, target)


def link_world(folder: Path) -> None:
    """The world in the output root of an input; files are shared, so they are to be replaced, not written to."""
    link(ROOT / "good" / "outputs" / "data", folder / "outputs" / "data")


def link_run(folder: Path) -> None:
    """The world and the finished run, as `run` in the folder of an input."""
    link(ROOT / "good" / "outputs", folder / "outputs")


def run_of(folder: Path) -> Path:
    """The directory of the finished run of an input."""
    (found,) = (folder / "outputs" / "finetune" / "tiny").iterdir()
    return found


def link(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)


def replace(path: Path, content: bytes | str) -> None:
    """Put another content in place of a shared file."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
