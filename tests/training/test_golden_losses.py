"""The loss curve of the embedded model is the one committed, whatever is changed in the code."""

from __future__ import annotations

import json

import pytest
import torch
from support.composing import composed
from support.training import train_here
from support.whole_runs import GOLDEN, SMALL, curve

from vrx.training.loop import seed_dropout

EXPECTED = json.loads((GOLDEN / "losses" / "tiny.json").read_text())


@pytest.mark.parametrize("dropout", EXPECTED["losses"])
def test_the_embedded_model_learns_along_the_committed_curve(dropout, world, tmp_path):
    seed_dropout(0, 0, 0)
    mask = torch.nn.functional.dropout(torch.ones(32), 0.5).bool().int().tolist()
    if dropout != "lora.dropout=0" and mask != EXPECTED["dropout_mask"]:
        pytest.skip("torch draws other random numbers on this processor")
    run = composed([*SMALL, f"runtime.output_root={world}", *EXPECTED["settings"], dropout])
    losses = curve(train_here(run, tmp_path / "run"))
    assert losses == pytest.approx(EXPECTED["losses"][dropout], rel=1e-4)
