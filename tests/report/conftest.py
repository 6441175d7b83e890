"""An output root with its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.report_runs import ALL, SPARSE, TOP, VISUAL, write_run

from vrx.config.schema import RunConfig
from vrx.jobs.report.driver import report
from vrx.runs import importance_files
from vrx.runs.files import write_json


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root with runs of two models, and their report."""
    root = tmp_path_factory.mktemp("reported") / "out puts"
    tiny = tuple(f"tiny_{column}" for column in VISUAL)
    for layers, skill in ((ALL, 0.7), (SPARSE, 0.68), (TOP, 0.4)):
        write_run(root, layers, skill=skill)
        write_run(root, layers, model="tiny", columns=tiny, skill=skill)
    write_run(root, SPARSE, seed=1)
    for folder in (root / "finetune" / "tiny").iterdir():
        rows = [json.dumps({"step": step, "loss": 1 / (step + 1), "grad_norm": 1.0}) for step in range(20)]
        (folder / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    scores = {"samples": [{"benchmark": "tiny_gqa", "id": "0"}], "scores": [[None, 0.2]]}
    write_json(root / "score" / "tiny" / "all-2_100pct_seed0_0a" / importance_files.SAMPLE_SCORES_NAME, scores)
    run = RunConfig()
    run.runtime.output_root, run.wandb.mode = str(root), "disabled"
    report(run)
    return root
