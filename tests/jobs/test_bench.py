"""`vrx bench`: all variants do the same work, and the table shows what was measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from support.composing import composed

from vrx.config.compose import composing
from vrx.config.errors import UserError
from vrx.config.paths import CONF
from vrx.config.schema import ModelConfig
from vrx.data.instructions import dataset
from vrx.jobs.bench import results, synthetic
from vrx.jobs.bench.files import BenchDir
from vrx.jobs.bench.results import VariantCost
from vrx.jobs.bench.synthetic_run import NUM_LENGTHS, lengths_of_data, make_synthetic_run
from vrx.jobs.bench.variants import variants, with_recipe
from vrx.models import loading
from vrx.models.architecture import parameter_counts
from vrx.models.lvlm import decoder_layers
from vrx.report.paper import load_paper

FIGURE = load_paper().artifacts["figure3"]
LLAVA = ("job=bench", "model=llava-1.5-7b", "recipe=paper")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory) -> tuple[ModelConfig, Path]:
    """LLaVA-1.5-7B at a 64th of its width: its configuration, and the folder of its parts."""
    folder = tmp_path_factory.mktemp("narrow")
    like = composed([*LLAVA]).model
    synthetic.write_parts(like, folder, scale=64, dtype=torch.float32)
    parts = {name: str(folder / name) for name in ("backbone", "vision_tower", "projector")}
    tokens = {"tokenizer": "vrx:tiny/weights", "template": "tiny", "image_token": "<|image|>", "num_image_tokens": 64}
    return dataclasses.replace(like, **parts, **tokens), folder


def test_a_narrow_lvlm_has_the_depth_and_vocabulary_of_the_real_one(narrow):
    model, _ = narrow
    shape, real = parameter_counts(model), parameter_counts(composed([*LLAVA]).model)
    assert shape is not None and real is not None
    assert shape.backbone.num_layers == real.backbone.num_layers == 32
    assert shape.backbone.vocabulary == real.backbone.vocabulary
    assert (shape.backbone.hidden, shape.backbone.intermediate) == (4096 // 64, 11008 // 64)
    assert len(decoder_layers(loading.load(model))) == 32


@pytest.mark.parametrize("lengths", [[256], [150, 333, 600]])
def test_synthetic_samples_have_the_requested_lengths(narrow, lengths, tmp_path):
    model, _ = narrow
    synthetic.write_instructions(model, tmp_path, lengths=lengths, supervised=0.125, num_samples=5)
    tokenizer = loading.load_model_tokenizer(model)
    rows = json.loads((tmp_path / "instructions.json").read_text())
    source = dataset.TrainingDataset(
        [row | {"conversations": json.dumps(row["conversations"])} for row in rows],
        model,
        tokenizer,
        image_token_id=loading.image_token_id(model, tokenizer),
        image_folder=tmp_path / "images",
        on_bad_image="error",
    )
    for number in range(5):
        sample, length = source[number], lengths[number % len(lengths)]
        assert len(sample.input_ids) == length and sample.pixels is not None
        supervised = sum(label != -100 for label in sample.labels)
        assert supervised == pytest.approx(length / 8, abs=2)


def test_a_length_below_the_image_tokens_is_rejected(narrow, tmp_path):
    with pytest.raises(ValueError, match=r"bench.lengths=\[70\]: must be >= \d+"):
        synthetic.write_instructions(narrow[0], tmp_path, lengths=[70], supervised=0.125, num_samples=1)


def test_with_recipe_changes_only_settings_that_differ_between_recipes():
    run = composed([*LLAVA, "train.lr=1e-5", "train.global_batch_size=16", "lora.r=3"])
    with composing(CONF):
        fast = with_recipe(run, "fast")
        back = with_recipe(fast, "paper")
    assert fast.engine.packed and fast.train.gradient_checkpointing is None and fast.train.lr == 1e-5
    assert back == run


def test_every_variant_is_compared_at_every_number_of_layers():
    run = composed([*LLAVA, "bench.switches=true"])
    with composing(CONF):
        configs = {(name, len(config.selector.layers or ())): config for name, config in variants(run)}
        assert len(configs) == len(list(variants(run)))
    names = list(configs)
    assert len(names) == 2 * (3 + 6)
    assert {k for _, k in names} == {8, 32} and ("baseline", 32) in names and ("fast, without packed", 8) in names
    checkpointed = configs["fast, all layers checkpointed", 8]
    assert checkpointed.train.gradient_checkpointing is True and checkpointed.engine.packed


def test_the_old_name_of_the_baseline_is_rejected_with_the_new_one():
    with pytest.raises(UserError, match=r"^bench.recipes=peer: this value is called baseline now$"):
        composed([*LLAVA, "bench.recipes=[peer,fast]"])


def test_more_layers_than_the_model_has_are_refused():
    assert composed([*LLAVA, "bench.num_layers=[8,32]"]).bench
    with pytest.raises(UserError, match=r"^bench\.num_layers=33: must be between 1 and 32$"):
        composed([*LLAVA, "bench.num_layers=[8,33]"])


@pytest.fixture
def measured() -> list[VariantCost]:
    def cost(variant, k, seconds, flops):
        rest = {"tokens": 1000.0, "flops": flops, "matmul_flops_per_second": [2e12, 4e12], "peak_memory_gb": 2.0}
        return VariantCost(variant, k, seconds, **rest)

    return [
        cost("baseline", 32, [9.0, 10.0, 11.0], 6e12),
        cost("fast", 32, [4.0], 6e12),
        cost("baseline", 8, [8.0], 5.4e12),
        cost("fast", 8, [3.0, 3.6], 5.4e12),
    ]


def test_the_table_shows_medians_and_their_ratios(measured):
    inference = {"timings": {"scoring": {"seconds": 0.25}}, "peak_memory_gb": 1.0}
    lines = results.results_table(measured, inference, about="about").splitlines()
    cells = {line.split("|")[1].strip() + line.split("|")[2].strip(): line.split("|")[3:-1] for line in lines[4:8]}
    row = [cell.strip() for cell in cells["fast8"]]
    assert row == ["3.3", "3 to 3.6", "303", "0.41", "18 %", "55 %", "5.4", "0", "2.0"]
    assert [cell.strip() for cell in cells["baseline32"]][:5] == ["10", "9 to 11", "100", "1.00", ""]
    assert lines[-1] == "| scoring   |       250 |         4 |"
    full = results.results_table(measured, {}, about="about", full_run=8 * 3600).splitlines()
    assert [line.split("|")[-2].strip() for line in full[2:]] == [
        "hours per full run",
        "-------------------:",
        "80.0",
        "32.0",
        "64.0",
        "26.4",
    ]


def test_the_figure_shows_the_saving_that_the_paper_prints(measured):
    full = {8: 9e12, 32: 10e12}
    plot = results.results_figure(measured, FIGURE, model="llava-1.5-7b", about="", full_size=full)
    relative = {line.name: line.points for line in plot.panels[1].lines}
    assert relative["baseline"] == ((8.0, 80.0, None), (32.0, 100.0, None))
    assert relative["FLOPs, full size"] == ((8.0, pytest.approx(90.0), None), (32.0, 100.0, None))
    assert relative["published: 23 % less"] == ((8.0, 77.0, None),)


def test_lengths_come_from_configured_instruction_data(tmp_path):
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "word " * 100}]
    rows = [{"id": str(n), "image": "a.png", "conversations": turns} for n in range(20)]
    rows += [{"id": f"t{n}", "conversations": [{"from": "human", "value": "Why?"}, turns[1]]} for n in range(20)]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    data = (f"instructions.path={tmp_path}/data.json", f"instructions.image_folder={tmp_path}")
    lengths, number = lengths_of_data(composed([*LLAVA, *data, f"runtime.output_root={tmp_path}"]))
    assert number == 40 and lengths is not None and len(lengths) == NUM_LENGTHS
    assert set(lengths) == {
        576 + 40,
        round(576 + 40 + 1.4 * 102),
    }  # text-only samples count as an image with a short text
    assert lengths_of_data(composed([*LLAVA])) == (None, 665298)


def test_a_global_batch_that_processes_cannot_share_is_refused_before_anything_is_made(tmp_path):
    run = composed(
        [*LLAVA, "runtime.cpu_processes=3", "runtime.num_gpus=0", "bench.scale=1", f"runtime.output_root={tmp_path}"]
    )
    with pytest.raises(UserError, match=r"^train\.global_batch_size=128: valid is a multiple of .* = 8 x 3 = 24$"):
        make_synthetic_run(run, BenchDir(tmp_path / "bench"), None)
    assert not (tmp_path / "bench").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_command_measures_a_recipe_and_the_baseline(vrx, tmp_path, processes):
    done = vrx(
        "job=bench",
        f"runtime.cpu_processes={processes}",
        "runtime.num_gpus=0",
        "bench.recipes=[baseline,fast]",
        "bench.rounds=1",
        "bench.steps=1",
        "bench.warmup=1",
        "bench.num_layers=[8]",
        "bench.lengths=[128]",
        "train.micro_batch_size=4",
        "train.global_batch_size=4",
        "eval.batch_size=4",
    )
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "outputs/bench/tiny/bench.json").read_text())
    training = numbers["training"]
    assert [(cost["variant"], cost["num_layers"]) for cost in training] == [("baseline", 8), ("fast", 8)]
    assert len({(cost["tokens"], cost["flops"]) for cost in training}) == 1
    assert all(len(cost["seconds"]) == 1 and cost["seconds"][0] > 0 for cost in training)
    assert training[0]["tokens"] == 4 * 128 * processes
    assert (tmp_path / "outputs/bench/tiny/bench.png").read_bytes().startswith(b"\x89PNG")
    assert set(numbers["inference"]["timings"]) == {"generation, 1 at a time", "generation, 4 at a time", "scoring"}
