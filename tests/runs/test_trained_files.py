"""A trained adapter or projector that was damaged later is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from vrx.config.errors import UserError
from vrx.runs.files import file_digest
from vrx.runs.run_dir import RunDir
from vrx.runs.status import training_gap
from vrx.runs.train_summary import TrainSummary


@pytest.mark.parametrize("result", ["adapter", "projector"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"other")], ids=["gone", "changed"])
def test_a_damaged_result_is_refused(tmp_path: Path, result: str, damage):
    file = tmp_path / result / "weights.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    TrainSummary(result={file.name: file_digest(file)}).write(RunDir(tmp_path).train_summary)
    assert training_gap(tmp_path, result) is None
    damage(file)
    with pytest.raises(UserError, match=rf"^{file}: damaged .*; restore it, or delete "):
        training_gap(tmp_path, result)


def test_the_result_of_an_earlier_version_is_not_checked(tmp_path: Path):
    (tmp_path / "adapter").mkdir()
    TrainSummary().write(RunDir(tmp_path).train_summary)
    assert training_gap(tmp_path) is None
