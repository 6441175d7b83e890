"""A fine-tune that is killed, or whose machine loses power, ends in the same bits by the same command.

Some points only; `tests/support/fault_campaign.py` disturbs every job at every rename and sync.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.faults import Campaign, lose_unsynced

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign("finetune", tmp_path_factory.mktemp("faults") / "finetune")


@pytest.mark.parametrize(
    ("at", "power"),
    [("checkpoint/step-2", False), ("checkpoint/step-3", True), ("train.json", True)],
)
def test_a_disturbed_fine_tune_ends_as_the_undisturbed_one(campaign: Campaign, at: str, power: bool):
    points = [point.split() for point in campaign.points]
    (number,) = (n for n, (kind, path) in enumerate(points, 1) if kind == "rename" and path.endswith(at))
    assert campaign.disturb(number, power=power) is None


def test_the_campaign_covers_what_a_fine_tune_writes(campaign: Campaign):
    synced = " ".join(campaign.points)
    for name in ("rows.arrow", "weights.safetensors", "optimizer-0.safetensors", "adapter_model.safetensors"):
        assert name in synced
    assert len(campaign.points) > 50


def test_a_loss_of_power_cuts_what_was_not_synced(tmp_path: Path):
    whole, cut, gone = (tmp_path / name for name in ("whole", "cut", "gone"))
    for path in (whole, cut, gone):
        path.write_bytes(b"12345")
    notes = tmp_path.with_name("notes")
    notes.write_text(f"{whole.stat().st_ino} 5\n{cut.stat().st_ino} 5\n{cut.stat().st_ino} 3\n")
    lose_unsynced(tmp_path, notes)
    assert [path.read_bytes() for path in (whole, cut, gone)] == [b"12345", b"123", b""]
