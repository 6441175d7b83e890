"""Importance scores as files: what is refused, which file a configuration means, and what its selectors make of it."""

from __future__ import annotations

import itertools
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.composing import composed
from support.whole_runs import SMALL

from vrx.config import errors, validate
from vrx.config.compose import compose_config, composing
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig
from vrx.evaluation import calibration
from vrx.evaluation.generation import Generator, prompt_batches
from vrx.jobs.score import driver as job
from vrx.jobs.score import worker
from vrx.jobs.sweep.plan import PlannedRun, score_overrides
from vrx.models import from_run, loading, probe
from vrx.models.lvlm import decoder_layers
from vrx.models.merged_state_dict import tuned_state
from vrx.report.figures import image_attention
from vrx.report.figures.figure import FigureInputs
from vrx.report.paper import load_paper
from vrx.runs import files, importance_files
from vrx.runs.identity import base_identity
from vrx.runs.identity import finetune_identity as identity_of
from vrx.runs.layer_selection import select_layers, selector_label
from vrx.selectors import importance

DEPTH = 32
MakeRun = Callable[..., RunConfig]
FILES = sorted(path for path in (CONF / "selector").glob("*.yaml") if "formula:" in path.read_text(encoding="utf-8"))
RISING = [float(layer) for layer in range(DEPTH)]


@pytest.fixture
def fresh(tmp_path: Path, world: Path) -> MakeRun:
    """Runs of the small world whose outputs go to an empty folder."""
    data = [f"world.folder={world}/data/tiny", f"runtime.output_root={tmp_path}"]
    return lambda *overrides: composed([*SMALL, *data, *overrides])


def file_of(run: RunConfig, values: dict[str, list[float]], *, place: Path | None = None, **changes: Any) -> Path:
    """A score file such as the job leaves of the fine-tune of all layers that a configuration describes."""
    whole = importance_files.all_layers(run)
    identity = identity_of(whole, list(range(DEPTH)), "d" * 64)
    scored = {"run_id": "0", "identity": identity, "data": importance_files.data_fingerprint(run.instructions.path)}
    told = {
        "version": importance_files.VERSION,
        "model": base_identity(run),
        "scored": scored,
        "scores": values,
        **changes,
    }
    path = place or importance_files.scores_file(run, f"all-32_{files.digest(identity)[:8]}")
    files.write_json(path, told)
    return path


# ---- what is refused


def test_scores_are_read_as_they_were_written(fresh: MakeRun):
    run = fresh()
    path = file_of(run, {"a": RISING, "b": [1.0] * DEPTH})
    assert importance_files.read_scores(path, model=base_identity(run), num_layers=DEPTH)["a"] == RISING


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"a": RISING[:-1]}, r"a has 31 scores, the model has 32 decoder layers"),
        ({"a": RISING, "b": [*RISING, 1.0]}, r"b has 33 scores, the model has 32 decoder layers"),
        ({"a": [math.nan, *RISING[1:]]}, r"a has no finite score for the layers 0 \(nan\)"),
        ({"a": [*RISING[:-2], math.inf, None]}, r"a has no finite score for the layers 30 \(inf\), 31 \(None\)"),
        ({}, "no importance scores of version 1; delete it"),
        ({"a": 1.0}, "no importance scores of version 1; delete it"),
    ],
)
def test_a_bad_score_is_refused(fresh: MakeRun, values: dict[str, Any], told: str):
    run = fresh()
    path = file_of(run, values)
    with pytest.raises(ValueError, match=told) as caught:
        importance_files.read_scores(path, model=base_identity(run), num_layers=DEPTH)
    assert str(path) in str(caught.value)


def test_scores_of_other_weights_or_another_version_are_refused(fresh: MakeRun):
    run = fresh()
    other = {"model": {"name": "other"}, "weights": {"backbone": "0"}}
    with pytest.raises(ValueError, match="scores of other weights, of model=other"):
        importance_files.read_scores(
            file_of(run, {"a": RISING}, model=other), model=base_identity(run), num_layers=DEPTH
        )
    with pytest.raises(ValueError, match="no importance scores of version 1"):
        importance_files.read_scores(file_of(run, {"a": RISING}, version=2), model=base_identity(run), num_layers=DEPTH)


@pytest.mark.parametrize("content", ["", "[1]", '{"version": 1}', "\x00"])
def test_what_is_no_score_file_is_refused_by_name(tmp_path: Path, content: str):
    path = tmp_path / "scores.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"scores\.json: no importance scores"):
        importance_files.read_scores(path, model={"weights": {}, "model": {"name": "tiny"}}, num_layers=DEPTH)


def test_without_a_file_the_command_that_makes_it_is_told(fresh: MakeRun):
    with pytest.raises(errors.UserError, match=r"vrx job=score selector=block_influence model=tiny") as caught:
        fresh("selector=block_influence")
    assert "\n" not in str(caught.value)
    run = fresh()
    model = base_identity(run)
    with pytest.raises(errors.UserError, match=r"run: vrx job=score score.base_model=true model=tiny"):
        importance_files.read_scores(importance_files.scores_file(run, "untouched"), model=model, num_layers=DEPTH)
    Path(run.runtime.output_root, "finetune/tiny/a_0").mkdir(parents=True)
    with pytest.raises(errors.UserError, match=r"job=score model=tiny job.run=.*/finetune/tiny/a_0$"):
        importance_files.read_scores(importance_files.scores_file(run, "a_0"), model=model, num_layers=DEPTH)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("selector.scores=x.json",), "selector.scores=x.json: selector=sparse_uniform orders by no scores"),
        (("selector.scores_from_fraction=0.1",), "selector.scores_from_fraction=0.1: selector=sparse_uniform"),
        (("selector.reverse=true",), "selector.reverse=True: sparse_uniform: got an unexpected keyword"),
        (("job=score", "score.samples_per_benchmark=0"), "score.samples_per_benchmark=0: must be >= 1"),
    ],
)
def test_keys_that_say_nothing_are_refused(fresh: MakeRun, overrides: tuple[str, ...], told: str):
    with pytest.raises(ValueError, match=told):
        fresh(*overrides)


# ---- which layers, by which file


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_selector_takes_the_highest_scores_of_its_formula(fresh: MakeRun, path: Path):
    run = fresh(f"selector={path.stem}", "job=score")
    assert run.selector.formula in (*probe.ACTIVATION_SCORES, *probe.WEIGHT_SCORES)
    file_of(run, {run.selector.formula: RISING, "other": RISING[::-1]})
    assert select_layers(fresh(f"selector={path.stem}")) == tuple(range(24, 32))
    assert select_layers(fresh(f"selector={path.stem}", "layer_count=2_layers", "selector.reverse=true")) == (0, 1)
    assert select_layers(fresh(f"selector={path.stem}", "layer_count=32_layers")) == tuple(range(32))


def test_a_formula_that_the_file_lacks_is_refused(fresh: MakeRun):
    file_of(fresh(), {"other": RISING})
    with pytest.raises(ValueError, match=r"selector.formula=block_influence: .*scores.json has other"):
        fresh("selector=block_influence")


def test_the_file_is_that_of_the_same_recipe_seed_and_data(fresh: MakeRun):
    file_of(fresh(), {"block_influence": RISING})
    by = "selector=block_influence"
    assert select_layers(fresh(by, "layer_count=1_layer", "eval.limit=3", "runtime.num_workers=1")) == (31,)
    for other in ("seed=1", "train.max_steps=3", "data_fraction=10pct", "lora.r=4", "model.max_length=400"):
        with pytest.raises(errors.NoImportanceScores):
            fresh(by, other)


def test_scores_of_other_data_in_the_same_place_are_not_taken(fresh: MakeRun, tmp_path: Path):
    run = fresh()
    mine = tmp_path / "instructions.json"
    mine.write_bytes(Path(run.instructions.path or "").read_bytes())
    file_of(run, {"block_influence": RISING})
    fresh("selector=block_influence", f"instructions.path={mine}")  # the same data elsewhere
    mine.write_bytes(b" " + mine.read_bytes())
    with pytest.raises(errors.NoImportanceScores):
        fresh("selector=block_influence", f"instructions.path={mine}")


def test_a_region_found_on_a_tenth_of_the_data_is_tested_on_all_of_it(fresh: MakeRun):
    file_of(fresh("data_fraction=10pct"), {"block_influence": RISING})
    file_of(fresh(), {"block_influence": RISING[::-1]})
    tenth = fresh("selector=block_influence", "selector.scores_from_fraction=0.1", "layer_count=1_layer")
    assert select_layers(tenth) == (31,)
    assert tenth.data_fraction.fraction == 1
    assert select_layers(fresh("selector=block_influence", "layer_count=1_layer")) == (0,)


def test_a_file_may_be_named(fresh: MakeRun, tmp_path: Path):
    path = file_of(fresh(), {"block_influence": RISING}, place=tmp_path / "mine" / "scores.json")
    named = fresh("selector=block_influence", f"selector.scores={path}", "seed=7", "layer_count=1_layer")
    assert select_layers(named) == (31,)
    assert selector_label(named) == "block_influence_by_mine"


def test_a_selector_is_called_by_all_that_decides_on_its_layers(fresh: MakeRun):
    def name(*overrides: str) -> str:
        return selector_label(fresh("job=score", *overrides))

    by = "selector=block_influence"
    assert name() == "sparse_uniform"
    assert name(by) == "block_influence"
    assert name(by, "selector.reverse=true") == "block_influence_reversed"
    assert name(by, "selector.scores_from_fraction=0.1") == "block_influence_from_10pct"
    assert name("selector.layers=[1,2]") == "layers"


def test_a_frozen_run_needs_no_scores(fresh: MakeRun):
    path = file_of(fresh(), {"block_influence": RISING})
    run = fresh("selector=block_influence")
    run.selector.layers = list(select_layers(run))
    path.unlink()
    validate.validate(run)


def test_a_sweep_takes_missing_scores_first_each_once(world: Path):
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


# ---- calibration samples


def test_samples_are_the_papers_four_benchmarks_drawn_by_lot(make_run: MakeRun):
    few, many = (make_run("job=score", f"score.samples_per_benchmark={number}") for number in (2, 4))
    names = ["tiny_ocrvqa", "tiny_docvqa", "tiny_refcocog", "tiny_tdiuc"]
    drawn = calibration.draw_samples(many)
    assert [name for name, _ in drawn] == [name for name in names for _ in range(4)]
    assert drawn == calibration.draw_samples(make_run("job=score", "seed=1", "score.samples_per_benchmark=4"))
    of_few = {(name, sample.answer.id) for name, sample in calibration.draw_samples(few)}
    assert of_few < {(name, sample.answer.id) for name, sample in drawn}
    assert calibration.describe(drawn)["num_samples"] == 16
    assert calibration.describe(drawn)["digest"] != calibration.describe(calibration.draw_samples(few))["digest"]


def test_other_benchmarks_may_be_named_and_must_show_images(make_run: MakeRun):
    run = make_run("job=score", "score.benchmarks=[tiny_gqa]")
    assert {name for name, _ in calibration.draw_samples(run)} == {"tiny_gqa"}
    assert calibration.benchmark_names(make_run("job=score", "benchmark=[tiny_gqa]")) == ["tiny_gqa"]
    with pytest.raises(ValueError, match=r"score.benchmarks=\[tiny_mmlu\]: its questions have no images"):
        calibration.draw_samples(make_run("job=score", "score.benchmarks=[tiny_mmlu]"))
    with pytest.raises(ValueError, match=r"score.benchmarks=\['gqa'\]: valid are the run's benchmarks, tiny_ocrvqa"):
        calibration.draw_samples(make_run("job=score", "score.benchmarks=[gqa]"))


# ---- the stage


def scored(run: RunConfig, run_dir: Path, source: Path | None) -> dict[str, Any]:
    """The file that the stage leaves of a source, in this process."""
    run.job.run = str(source) if source else None
    files.write_json(run_dir / "inputs.json", {"made_from": "x"})
    worker.score(run, run_dir)
    return files.read_json(run_dir / "scores.json")["scores"]


def slow(run: RunConfig, source: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Block influence and image attention sample by sample from whole maps in fp64: (means, attention of samples)."""
    tokenizer = loading.load_model_tokenizer(run.model)
    lvlm = from_run.load_from_run(run.model, source, dtype=torch.float32).double()
    lvlm.set_attn_implementation({"text_config": "eager"})
    token = loading.image_token_id(run.model, tokenizer)
    generator = Generator(lvlm, tokenizer, run.model)
    influence, attention = [], []
    for _, sample in calibration.draw_samples(run):
        (batch,) = prompt_batches(generator, [sample], batch_size=1)
        kept: list[torch.Tensor] = []
        handle = decoder_layers(lvlm)[-1].register_forward_hook(lambda *told, kept=kept: kept.append(told[2]))
        with torch.inference_mode():
            output = lvlm(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                pixel_values=batch.pixels.double(),
                output_attentions=True,
                output_hidden_states=True,
            )
        handle.remove()
        states = [*(state[0] for state in output.hidden_states[:-1]), kept[0][0]]
        image = batch.input_ids[0] == token
        cosines = [torch.cosine_similarity(a, b, dim=-1).mean() for a, b in itertools.pairwise(states)]
        influence.append(1 - torch.stack(cosines))
        maps = torch.stack([layer[0] for layer in output.attentions])  # (layers, heads, queries, keys)
        attention.append(maps[..., image].sum((1, 2, 3)) / (image.sum() * maps.shape[1]))
    each = torch.stack(attention)
    return {"block_influence": torch.stack(influence).mean(0), "image_attention": each.mean(0)}, each


def test_the_scores_of_a_tuned_lvlm_are_those_of_a_slow_reference(make_run: MakeRun, tuned: Path, tmp_path: Path):
    run = make_run("job=score", "score.samples_per_benchmark=2", "eval.batch_size=3")
    found = scored(run, tmp_path, tuned)
    assert found.keys() == {*probe.ACTIVATION_SCORES, *probe.WEIGHT_SCORES}
    means, each = slow(run, tuned)
    for name, expected in means.items():
        assert found[name] == pytest.approx(expected.tolist(), abs=1e-5), name
    kept = files.read_json(tmp_path / image_attention.FILE)
    torch.testing.assert_close(torch.tensor(kept["scores"]), each.float(), atol=1e-5, rtol=0)
    assert [sample["id"] for sample in kept["samples"]] == [one.answer.id for _, one in calibration.draw_samples(run)]
    layers = files.read_json(tuned / "record.json")["layers"]
    for name in probe.WEIGHT_SCORES:
        assert [layer for layer, score in enumerate(found[name]) if score > 0] == layers, name


def test_an_untouched_lvlm_has_no_scores_of_weights(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture):
    run = make_run("job=score", "score.samples_per_benchmark=1", "score.benchmarks=[tiny_gqa]")
    assert scored(run, tmp_path, None).keys() == set(probe.ACTIVATION_SCORES)
    assert "no scores of weights" in capsys.readouterr().err


def test_weights_made_from_backbone_and_adapter_are_those_of_the_merged_lvlm(make_run: MakeRun, tuned: Path):
    model = make_run().model
    state, layers = tuned_state(model, tuned), {}
    assert state is not None
    assert tuned_state(model, tuned.parent) is None
    for name, tensor in (
        from_run.load_tuned(model, tuned, dtype=torch.float32).model.language_model.state_dict().items()
    ):
        layers[f"model.{name}"] = tensor
    assert layers.keys() <= set(state)
    for name, expected in layers.items():
        torch.testing.assert_close(state[name].float(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_a_tenth_more_is_a_change_of_a_tenth_and_no_angle(factor: float):
    torch.manual_seed(0)
    backbone = torch.randn(40, 30)
    changes = [importance.tensor_delta(factor * backbone, backbone)]
    assert importance.parameter_change(changes) == pytest.approx(0.1, abs=1e-6)
    assert importance.angular_distance_weights(changes) == pytest.approx(0, abs=1e-3)


def peak(num_samples: int, root: str) -> None:
    """Print the most memory that scoring so many samples took, in a process of its own."""
    run = composed([*SMALL, f"runtime.output_root={root}", "job=score"])
    generator = Generator(loading.load(run.model), loading.load_model_tokenizer(run.model), run.model)
    drawn = [sample for _, sample in calibration.draw_samples(run)][:8]
    probe.mean_scores(generator.lvlm, prompt_batches(generator, drawn * (num_samples // 8), batch_size=8))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(world: Path):
    def told(number: int) -> int:
        code = f"from test_scores import peak; peak({number}, {str(world)!r})"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        ended = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=900
        )
        return int(ended.stdout.split()[-1])

    assert told(800) <= 1.05 * told(8)


# ---- the job, as typed


@pytest.mark.slow
def test_the_job_scores_a_finished_run_once(
    make_run: MakeRun, tuned: Path, world: Path, vrx: Callable[..., subprocess.CompletedProcess]
):
    command = [f"runtime.output_root={world}", "job=score", f"job.run={tuned}", "score.samples_per_benchmark=2"]
    first = vrx(*command)
    assert first.returncode == 0, first.stderr
    path = importance_files.scores_file(make_run(), tuned.name)
    told = files.read_json(path)
    assert told["scored"]["run_id"] == tuned.name.rpartition("_")[2]
    assert told["calibration"]["num_samples"] == 8
    assert len(first.stdout.splitlines()) == 2 + len(told["scores"])
    before = path.stat().st_mtime_ns
    assert "nothing to do" in vrx(*command).stderr
    assert path.stat().st_mtime_ns == before
    run = make_run("job=score", "score.samples_per_benchmark=2")
    run.job.run = str(tuned)
    assert job.progress(run).state == "done"
    run.score.samples_per_benchmark = 3
    assert job.progress(run).state == "to do"
    two = vrx(*command, "runtime.cpu_processes=2", "score.samples_per_benchmark=3")
    one = vrx(*command, "score.samples_per_benchmark=2")
    assert (two.returncode, one.returncode) == (0, 0), two.stderr + one.stderr
    again = files.read_json(path)["scores"]
    for name, values in told["scores"].items():
        assert again[name] == pytest.approx(values, abs=1e-9), name


# ---- Figure 5


def test_a_heat_map_shows_each_sample_and_layer(tmp_path: Path):
    samples = [{"benchmark": name, "id": str(number)} for name in ("b", "a") for number in range(3)]
    values = [[10.0 * row + layer for layer in range(4)] for row in range(6)]
    path = tmp_path / "score" / "tiny" / "all-32_100pct_seed0_0a" / image_attention.FILE
    files.write_json(path, {"made_from": "x", "samples": samples, "scores": values})
    broken = tmp_path / "score" / "tiny" / "z" / image_attention.FILE
    files.write_json(broken, {"samples": samples, "scores": [[math.nan]] * 6})
    (heat,) = image_attention.figure5(FigureInputs([], load_paper(), tmp_path, "tiny"))
    assert image_attention.figure5(FigureInputs([], load_paper(), tmp_path, "other")) == []
    assert heat.benchmarks == [("b", 3), ("a", 3)]
    (chart,) = heat.charts()
    assert chart.columns == ("layer", "sample", "image attention")
    assert chart.rows[5] == (1, "b 1", 11.0)
    assert "a (3 samples): 0: 40.0000" in heat.as_text()
    for form, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert heat.draw(form) == heat.draw(form)
        assert heat.draw(form).startswith(magic)
