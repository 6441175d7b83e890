"""Two ZeRO-3 ranks, one with text only and one with images: neither waits for the other, and the numbers agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from support.training import assert_same_course
from support.whole_runs import rows, run_dir

from vrx.config.schema import TrainConfig
from vrx.data import sampler
from vrx.data.instructions import instruction_dataset

STEPS = ("train.max_steps=3", "train.global_batch_size=4", "train.micro_batch_size=2", "train.warmup_ratio=0")
HAS_IMAGE = [[False, False, True, True], [True, True, False, False], [True, False, False, True]]  # of each step's rows


def write(folder: Path) -> None:
    """Write twelve conversations for these steps; the image of the last is missing."""
    chosen = instruction_dataset.draw_subset(12, 1.0, seed=0)
    plan = sampler.BatchPlan(chosen, TrainConfig(global_batch_size=4, micro_batch_size=2), seed=0)
    records: list[dict] = [{}] * 12
    for step, flags in enumerate(HAS_IMAGE):
        rows = [row for number in range(2) for row in plan.chunk(step, number)]
        for row, has_image in zip(rows, flags, strict=True):
            turns = [{"from": "human", "value": "What colour?"}, {"from": "gpt", "value": f"It is number {row}."}]
            records[row] = {"id": row, "conversations": turns}
            if has_image:
                turns[0]["value"] = "<image>\nWhat colour?"
                records[row]["image"] = f"{row}.png"
                Image.linear_gradient("L").rotate(20 * row).resize((48, 48)).convert("RGB").save(folder / f"{row}.png")
    (folder / f"{row}.png").unlink()
    (folder / "data.json").write_text(json.dumps(records))


@pytest.mark.slow
def test_two_ranks_of_which_one_has_no_image_agree_with_one(vrx, tmp_path):
    write(tmp_path)
    data = (f"instructions.path={tmp_path}/data.json", f"instructions.image_folder={tmp_path}")
    options = (*STEPS, *data, "instructions.on_bad_image=skip", "benchmark=[tiny_mmlu]", "eval.limit=1")
    folders = {}
    for ranks in (1, 2):
        (root := tmp_path / str(ranks)).mkdir()
        result = vrx(*options, f"runtime.cpu_processes={ranks}", cwd=root)
        assert result.returncode == 0, result.stderr
        folders[ranks] = run_dir(root)
    assert_same_course(folders[2], folders[1])
    one_rank, two_ranks = rows(folders[1]), rows(folders[2])
    for key in ("tokens", "samples", "bad_images", "masked_samples"):
        assert [row[key] for row in one_rank] == [row[key] for row in two_ranks]
    assert [len(row["bad_images"]) for row in two_ranks] == [0, 0, 1]  # the message comes from rank 1
