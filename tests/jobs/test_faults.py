"""A fine-tune that is killed, or whose machine loses power, ends in the same bits by the same command.

Some points only; `tests/support/fault_campaign.py` disturbs every job at every rename and sync.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import WAYS, Campaign, noted, restore_state
from support.forked import Commands
from support.whole_runs import ENVIRONMENT

SCRIPT = """
import os
from pathlib import Path

def sync(path):
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.close(file)

for folder in ("synced", "deleted", "late"):
    Path(folder).mkdir()
    Path(folder, "whole").write_text("12345")
    Path(folder, "cut").write_text("123")
    for path in (f"{folder}/whole", f"{folder}/cut", folder):
        sync(path)
    if folder != "late":
        sync(".")
with open("synced/cut", "a") as file:
    file.write("45")
Path("synced/new").write_text("12345")
os.rename("synced/whole", "synced/renamed")
for path in Path("deleted").iterdir():
    path.unlink()
Path("deleted").rmdir()
Path("other").mkdir()
sync("synced/new")
"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    folder = tmp_path_factory.mktemp("faults")
    with Commands(folder / "commands", ENVIRONMENT) as commands:
        yield Campaign("finetune", folder / "finetune", commands)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "way"),
    [
        ("checkpoint/step-2", "kill"),
        ("checkpoint/step-3", "contents lost"),
        ("train.json", "contents lost"),
        ("train.json", "names lost"),
    ],
)
def test_a_disturbed_fine_tune_ends_as_the_undisturbed_one(campaign: Campaign, at: str, way: str):
    points = [number for number, point in enumerate(campaign.points, 1) if re.fullmatch(f"rename .*/{at}", point)]
    assert points
    assert campaign.disturb(points[0], way) is None


@pytest.mark.slow
def test_the_campaign_covers_what_a_fine_tune_writes(campaign: Campaign):
    synced = " ".join(campaign.points)
    for name in ("rows.arrow", "weights.safetensors", "optimizer-0.safetensors", "adapter_model.safetensors"):
        assert name in synced
    assert len(campaign.points) > 50


SYNCED = {"whole": "12345", "cut": "123"}
LEFT = {
    "kill": {"late": SYNCED, "synced": {"renamed": "12345", "cut": "12345", "new": "12345"}, "other": {}},
    "contents lost": {"late": SYNCED, "synced": {"renamed": "12345", "cut": "123", "new": ""}, "other": {}},
    "names lost": {"synced": SYNCED, "deleted": SYNCED},
}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_not_synced_is_lost(tmp_path: Path, way: str):
    def content(folder: Path) -> dict:
        return {path.name: content(path) if path.is_dir() else path.read_text() for path in folder.iterdir()}

    root, notes = tmp_path / "root", tmp_path / "notes"
    root.mkdir()
    noted(["-c", SCRIPT], root, notes)
    last = len((notes / "points").read_text().splitlines())
    restore_state(notes, last, way, tmp_path / "restored")
    assert content(tmp_path / "restored") == LEFT[way]
