"""Where data lie: below `data_root`, else on the Hub; and what the recipes set for the tiny model."""

from __future__ import annotations

from pathlib import Path

from support.composing import composed


def test_a_real_benchmark_comes_from_the_hub_unless_data_root_holds_it(tmp_path: Path):
    questions = tmp_path / "gqa" / "testdev_balanced_questions.json"
    real = ["model=llava-1.5-7b", "benchmark=[gqa,mmlu]"]
    run = composed([*real, f"data_root={tmp_path}"])
    assert (run.benchmark["gqa"].path, run.benchmark["gqa"].image_folder) == ("lmms-lab/GQA", None)
    (tmp_path / "gqa" / "images").mkdir(parents=True)
    questions.touch()
    run = composed([*real, f"data_root={tmp_path}"])
    assert run.benchmark["gqa"].path == str(questions)
    assert run.benchmark["gqa"].image_folder == str(tmp_path / "gqa" / "images")
    assert run.benchmark["mmlu"].path == "cais/mmlu"


def test_instruction_data_lie_below_data_root(tmp_path: Path):
    run = composed(["model=llava-1.5-7b", "benchmark=gqa", f"data_root={tmp_path}"])
    assert run.instructions.path == str(tmp_path / "llava_v1_5_mix665k.json")
    assert run.instructions.image_folder == str(tmp_path / "images")
    assert composed(["model=llava-1.5-7b", "benchmark=gqa"]).instructions.path is None


def test_the_fast_recipe_is_the_fast_recipe_for_the_tiny_model_too():
    fast, real = (composed(["recipe=fast", *more]) for more in ([], ["model=llava-1.5-7b", "benchmark=gqa"]))
    assert fast.engine == real.engine
    assert (fast.train.gradient_checkpointing, fast.runtime.num_workers) == (None, 4)
    assert (real.train.gradient_checkpointing, real.runtime.num_workers) == (None, 4)


def test_the_default_run_of_the_tiny_model_checkpoints_nothing():
    run = composed([])
    assert (run.train.gradient_checkpointing, run.runtime.num_workers) == (False, 0)
