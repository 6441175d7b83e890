"""Importance scores as files: which are refused, which file a configuration uses, and which layers it selects."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.composing import composed
from support.whole_runs import SMALL

from vrx.config import errors, validate
from vrx.config.compose import compose_config, composing
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig
from vrx.data import run_data
from vrx.jobs import source_run
from vrx.jobs.finetune import driver
from vrx.jobs.sweep.plan import PlannedRun, score_overrides
from vrx.models import probe
from vrx.runs import files, importance_files
from vrx.runs.identity import base_identity, finetune_identity
from vrx.runs.layer_selection import choose_layers, select_layers, selector_label
from vrx.runs.lookup import locate_finetune
from vrx.runs.record import LayerScores

DEPTH, DATA = 32, "d" * 64
MakeRun = Callable[..., RunConfig]
FILES = sorted(path for path in (CONF / "selector").glob("*.yaml") if "formula:" in path.read_text(encoding="utf-8"))
RISING = [float(layer) for layer in range(DEPTH)]


@pytest.fixture
def fresh(tmp_path: Path, world: Path) -> MakeRun:
    """Runs of the small world whose outputs go to an empty folder."""
    data = [f"world.folder={world}/data/tiny", f"runtime.output_root={tmp_path}"]
    return lambda *overrides: composed([*SMALL, *data, *overrides])


def write_scores(
    run: RunConfig, values: dict[str, Any], *, path: Path | None = None, data: str = DATA, **changes: Any
) -> Path:
    """Write the score file of the fine-tune of all layers that a configuration describes; returns its path."""
    identity = finetune_identity(importance_files.all_layers(run), list(range(DEPTH)), data)
    scored = {"run_id": "0", "identity": identity}
    content = {
        "version": importance_files.VERSION,
        "model": base_identity(run),
        "scored": scored,
        "scores": values,
        **changes,
    }
    path = path or importance_files.scores_file(run, f"all-32_{files.digest(identity)[:8]}")
    files.write_json(path, content)
    return path


# ---- refused files


def test_scores_are_read_as_they_were_written(fresh: MakeRun):
    run = fresh()
    path = write_scores(run, {"a": RISING, "b": [1.0] * DEPTH})
    assert importance_files.read_scores(path, model=base_identity(run), num_layers=DEPTH)["a"] == RISING


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": RISING[:-1]}, r"a has 31 scores, the model has 32 decoder layers"),
        ({"a": RISING, "b": [*RISING, 1.0]}, r"b has 33 scores, the model has 32 decoder layers"),
        ({"a": [math.nan, *RISING[1:]]}, r"a has no finite score for the layers 0 \(nan\)"),
        ({"a": [*RISING[:-2], math.inf, math.nan]}, r"a has no finite score for the layers 30 \(inf\), 31 \(nan\)"),
        ({}, "no importance scores of version 1; delete it"),
        ({"a": 1.0}, "no importance scores of version 1; delete it"),
    ],
)
def test_a_bad_score_is_refused(fresh: MakeRun, values: dict[str, Any], message: str):
    run = fresh()
    path = write_scores(run, values)
    with pytest.raises(ValueError, match=message) as caught:
        importance_files.read_scores(path, model=base_identity(run), num_layers=DEPTH)
    assert str(path) in str(caught.value)


def test_scores_of_other_weights_or_another_version_are_refused(fresh: MakeRun):
    run = fresh()
    other = {"model": {"name": "other"}, "weights": {"backbone": "0"}}
    with pytest.raises(ValueError, match=r"scores of other weights, of model=other; run: vrx score model=tiny$"):
        importance_files.read_scores(
            write_scores(run, {"a": RISING}, model=other), model=base_identity(run), num_layers=DEPTH
        )
    with pytest.raises(ValueError, match="no importance scores of version 1"):
        importance_files.read_scores(
            write_scores(run, {"a": RISING}, version=2), model=base_identity(run), num_layers=DEPTH
        )


@pytest.mark.parametrize("content", ["", "[1]", '{"version": 1}', "\x00"])
def test_another_file_is_refused_by_name(tmp_path: Path, content: str):
    path = tmp_path / "scores.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"scores\.json: no importance scores"):
        importance_files.read_scores(path, model={"weights": {}, "model": {"name": "tiny"}}, num_layers=DEPTH)


def test_missing_scores_name_the_command_that_computes_them(fresh: MakeRun):
    with pytest.raises(errors.UserError, match=r"vrx score selector=block_influence model=tiny") as caught:
        select_layers(fresh("selector=block_influence"), DATA)
    assert "\n" not in str(caught.value)
    run = fresh()
    model = base_identity(run)
    with pytest.raises(errors.UserError, match=r"run: vrx score score.base_model=true model=tiny"):
        importance_files.read_scores(importance_files.scores_file(run, "untouched"), model=model, num_layers=DEPTH)
    Path(run.runtime.output_root, "finetune/tiny/a_0").mkdir(parents=True)
    with pytest.raises(errors.UserError, match=r"vrx score model=tiny job.run=.*/finetune/tiny/a_0$"):
        importance_files.read_scores(importance_files.scores_file(run, "a_0"), model=model, num_layers=DEPTH)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("selector.scores=x.json",), "selector.scores=x.json: selector=sparse_uniform orders by no scores"),
        (("selector.scores_from_fraction=0.1",), "selector.scores_from_fraction=0.1: selector=sparse_uniform"),
        (("selector.reverse=true",), "selector.reverse=True: not an option of sparse_uniform; valid: selector.offset"),
        (("job=score", "score.samples_per_benchmark=0"), "score.samples_per_benchmark=0: must be >= 1"),
    ],
)
def test_keys_without_effect_are_refused(fresh: MakeRun, overrides: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        fresh(*overrides)


# ---- selection by scores


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_selector_takes_the_highest_scores_of_its_formula(fresh: MakeRun, path: Path):
    run = fresh(f"selector={path.stem}", "job=score")
    assert run.selector.formula in (*probe.ACTIVATION_SCORES, *probe.WEIGHT_SCORES)
    write_scores(run, {run.selector.formula: RISING, "other": RISING[::-1]})
    assert select_layers(fresh(f"selector={path.stem}"), DATA) == tuple(range(24, 32))
    lowest = fresh(f"selector={path.stem}", "layer_count=2_layers", "selector.reverse=true")
    assert select_layers(lowest, DATA) == (0, 1)
    assert select_layers(fresh(f"selector={path.stem}", "layer_count=32_layers"), DATA) == tuple(range(32))


def test_a_formula_that_the_file_lacks_is_refused(fresh: MakeRun):
    write_scores(fresh(), {"other": RISING})
    with pytest.raises(ValueError, match=r"selector.formula=block_influence: .*scores.json has other"):
        select_layers(fresh("selector=block_influence"), DATA)


def test_scores_of_another_recipe_seed_or_data_are_not_used(fresh: MakeRun):
    write_scores(fresh(), {"block_influence": RISING})
    by = "selector=block_influence"
    assert select_layers(fresh(by, "layer_count=1_layer", "eval.limit=3", "runtime.num_workers=1"), DATA) == (31,)
    for other in ("seed=1", "train.max_steps=3", "data_fraction=10pct", "lora.r=4", "model.max_length=400"):
        with pytest.raises(errors.NoImportanceScores):
            select_layers(fresh(by, other), DATA)


def test_scores_of_other_data_are_not_used_whatever_the_data_are_called(fresh: MakeRun):
    write_scores(fresh(), {"block_influence": RISING})
    run = fresh("selector=block_influence", "instructions.path=elsewhere", "layer_count=1_layer")
    assert select_layers(run, DATA) == (31,)
    with pytest.raises(errors.NoImportanceScores):
        select_layers(run, "e" * 64)


def test_a_job_takes_the_scores_of_a_fine_tune_on_its_own_data(fresh: MakeRun):
    run = fresh("selector=block_influence", "layer_count=1_layer")
    others = write_scores(run, {"block_influence": RISING[::-1]})
    with pytest.raises(errors.NoImportanceScores):
        driver.progress(run)
    write_scores(run, {"block_influence": RISING}, data=run_data.digest(run))
    assert others.is_file() and driver.progress(run).run_dir == source_run.source_dir(run)
    layers = select_layers(run, run_data.digest(run))
    assert layers == (31,) and source_run.source_dir(run) == locate_finetune(run, layers, run_data.digest(run))[0]


def test_the_scores_that_choose_the_layers_are_told_with_them(fresh: MakeRun):
    run = fresh("selector=block_influence", "layer_count=1_layer")
    write_scores(run, {"block_influence": RISING}, made_from="f" * 16)
    assert choose_layers(run, DATA) == ((31,), LayerScores("block_influence", [*RISING], "f" * 16))
    assert choose_layers(fresh("selector=consecutive_top", "layer_count=1_layer"), DATA) == ((31,), None)


def test_scores_of_no_fine_tune_are_passed_over(fresh: MakeRun):
    run = fresh("selector=block_influence", "layer_count=1_layer")
    for number, scored in enumerate((None, {"identity": base_identity(run)}, {}, "x")):
        path = importance_files.scores_file(run, f"a{number}")
        write_scores(run, {"block_influence": RISING[::-1]}, path=path, scored=scored)
    write_scores(run, {"block_influence": RISING})
    assert select_layers(run, DATA) == (31,)


def test_scores_from_a_tenth_of_the_data_select_the_layers_of_a_run_on_all_data(fresh: MakeRun):
    write_scores(fresh("data_fraction=10pct"), {"block_influence": RISING})
    write_scores(fresh(), {"block_influence": RISING[::-1]})
    tenth = fresh("selector=block_influence", "selector.scores_from_fraction=0.1", "layer_count=1_layer")
    assert select_layers(tenth, DATA) == (31,)
    assert tenth.data_fraction.fraction == 1
    assert select_layers(fresh("selector=block_influence", "layer_count=1_layer"), DATA) == (0,)


def test_a_score_file_can_be_named(fresh: MakeRun, tmp_path: Path):
    path = write_scores(fresh(), {"block_influence": RISING}, path=tmp_path / "mine" / "scores.json")
    named = fresh("selector=block_influence", f"selector.scores={path}", "seed=7", "layer_count=1_layer")
    assert select_layers(named, DATA) == (31,)
    assert selector_label(named) == "block_influence_by_mine"


def test_a_selectors_label_names_all_that_decides_on_its_layers(fresh: MakeRun):
    def name(*overrides: str) -> str:
        return selector_label(fresh("job=score", *overrides))

    by = "selector=block_influence"
    assert name() == "sparse_uniform"
    assert name(by) == "block_influence"
    assert name(by, "selector.reverse=true") == "block_influence_reversed"
    assert name(by, "selector.scores_from_fraction=0.1") == "block_influence_from_10pct"
    assert name("selector.layers=[1,2]") == "layers"


def test_a_frozen_run_needs_no_scores(fresh: MakeRun):
    path = write_scores(fresh(), {"block_influence": RISING})
    run = fresh("selector=block_influence")
    run.selector.layers = list(select_layers(run, DATA))
    path.unlink()
    validate.validate(run)


def test_a_sweep_computes_missing_scores_first_and_once(world: Path):
    def plain(*overrides: str) -> PlannedRun:
        return PlannedRun(list(overrides), compose_config(list(overrides)))

    with composing(CONF):
        runs = [
            plain("selector=block_influence", "seed=0", "layer_count=4_layers"),
            plain("selector=parameter_change", "seed=0", "selector.reverse=true"),
            plain("selector=block_influence", "seed=1"),
            plain("selector=block_influence", "seed=2", "selector.scores=x.json"),
            plain("selector=random", "seed=3"),
            plain("selector=block_influence", "seed=4", "job=report"),
        ]
        assert score_overrides(runs) == [["seed=0", "job=score"], ["seed=1", "job=score"]]
