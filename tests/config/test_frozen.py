"""A run survives being frozen and read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.config_runs import default, given_keys, run_of

from vrx.config.errors import UserError
from vrx.config.frozen import freeze, load_frozen, thaw

RUNS = {
    "default": (),
    "explicit layers": ("benchmark=tiny_gqa", "selector.layers=[3,1]", "train.max_steps=7"),
    "importance list": (
        "benchmark=tiny_gqa",
        "selector=image_attention_paper",
    ),
    "fraction": ("benchmark=tiny_gqa", "layer_count=25pct", "data_fraction=10pct", "seed=3"),
    "real model": ("model=llava-1.5-7b", "benchmark=all", "instructions.path='a/ü.json'", "recipe=fast"),
    "evaluate": ("job=evaluate", "job.run=somewhere", "eval.limit=5", "wandb.tags=[a,b]"),
}


@pytest.mark.parametrize("overrides", RUNS.values(), ids=RUNS)
def test_a_frozen_run_thaws_to_itself(tmp_path: Path, overrides: tuple[str, ...]):
    run = run_of(*overrides)
    (tmp_path / "config.yaml").write_text(freeze(run), encoding="utf-8")
    assert load_frozen(tmp_path / "config.yaml") == run


@settings(deadline=None, max_examples=15, derandomize=True)
@example(text="a\x85b\u2028c", lr=0.1, seed=0)
@given(text=st.text(), lr=st.floats(0, 1), seed=st.integers(-(2**31), 2**31))
def test_any_text_and_number_survives_freezing(text: str, lr: float, seed: int):
    run = given_keys()
    run.instructions.path, run.model.image_token, run.train.lr, run.seed = text, text, lr, seed
    if "$" not in text:  # OmegaConf reads it as a reference
        assert thaw(freeze(run)) == run


def test_a_frozen_run_holds_values_only():
    assert "${" not in freeze(run_of())


def test_a_frozen_file_with_a_key_of_no_meaning_is_refused(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(default() + "sed: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.yaml: not a frozen run: Key 'sed' not in 'RunConfig'"):
        load_frozen(path)
