"""Parameter counts and cost estimates follow from the shapes of a model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.composing import composed

from vrx.config.paths import CONF, PACKAGE
from vrx.config.schema import LoraConfig
from vrx.models import loading
from vrx.models.architecture import parameter_counts, published_facts
from vrx.models.lora import apply_lora, trainable_parameters
from vrx.training import cost_model
from vrx.training.flops import Workload

ASSEMBLED = [path.stem for path in (CONF / "model").glob("*.yaml") if "  architecture:" not in path.read_text()]
OFFICIAL = sorted(set(ASSEMBLED) - {"tiny", "small"})
TRAINABLE = [  # LoRA of rank 128 and the projector; counted from the published configurations
    ("llava-1.5-7b", 8, 100_933_632),
    ("llava-1.5-7b", 32, 340_795_392),
    ("llava-1.5-13b", 9, 144_123_904),
    ("llava-1.5-13b", 40, 532_162_560),
    ("bunny-llama3-8b", 8, 105_390_080),
    ("bunny-llama3-8b", 32, 357_048_320),
    ("bunny-phi3-mini-4b", 8, 63_313_920),
    ("bunny-phi3-mini-4b", 32, 214_308_864),
]
SAMPLE_FLOPS = [  # 8 layers, samples of 1000.5 tokens after padding, 90 % with an image; recorded from release 0.1
    ("llava-1.5-7b", "true", 41467944842035.2),
    ("llava-1.5-7b", "false", 28087064081203.2),
    ("llava-1.5-13b", "true", 79672899708518.4),
    ("bunny-llama3-8b", "true", 46344374410444.8),
    ("bunny-phi3-mini-4b", "false", 16380029343744.0),
]


@pytest.mark.parametrize(("name", "num_layers", "expected"), TRAINABLE)
def test_trainable_parameters_of_the_papers_models(name, num_layers, expected):
    shape = parameter_counts(composed([f"model={name}"]).model)
    assert shape is not None and shape.trainable_parameters(num_layers, LoraConfig(r=128)) == expected


@pytest.mark.parametrize("options", [["lora.r=4"], ["lora.r=16"], ["lora.target_modules=[q_proj,down_proj]"]])
@pytest.mark.parametrize("use_dora", ["false", "true"])
def test_counted_trainable_parameters_equal_those_of_the_loaded_model(make_run, options, use_dora):
    run = make_run(*options, f"lora.use_dora={use_dora}")
    shape = parameter_counts(run.model)
    tuned = apply_lora(loading.load(run.model), [0, 5, 31], run.lora)
    counted = sum(parameter.numel() for parameter in trainable_parameters(tuned).values())
    assert shape is not None and shape.trainable_parameters(3, run.lora) == counted


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_published_part_has_a_shape_and_its_data_a_source(name):
    run = composed([f"model={name}"])
    shape = parameter_counts(run.model)
    assert shape is not None and shape.backbone.num_layers == run.model.num_layers
    assert shape.tower.num_patches == run.model.num_image_tokens
    assert run.model.template in published_facts()["instructions"]


def test_a_local_configuration_takes_precedence_over_the_published_one(make_run, tmp_path):
    run = make_run()
    config_json = json.loads((PACKAGE / "tiny" / "weights" / "backbone" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config_json, "num_hidden_layers": 7}))
    run.model.backbone = str(tmp_path)
    shape = parameter_counts(run.model)
    assert shape is not None and shape.backbone.num_layers == 7
    run.model.backbone = "nobody/nothing"
    assert parameter_counts(run.model) is None


@pytest.mark.parametrize(("name", "checkpointing", "expected"), SAMPLE_FLOPS)
def test_flops_of_a_padded_sample(name, checkpointing, expected):
    run = composed([f"model={name}", f"train.gradient_checkpointing={checkpointing}"])
    shape = parameter_counts(run.model)
    assert shape is not None
    flops = cost_model.sample_flops(shape, 8, cost_model.Lengths(1000.5, 2048, 0.9), run)
    assert flops == pytest.approx(expected, rel=1e-12)


def test_costs_grow_with_layers_length_and_recomputation():
    run = composed(["model=llava-1.5-7b"])
    plain = composed(["model=llava-1.5-7b", "train.gradient_checkpointing=false"])
    shape = parameter_counts(run.model)
    assert shape is not None
    short, long = (cost_model.Lengths(size, int(size), 1.0) for size in (800.0, 1600.0))

    def cost(config, layers, lengths):
        return (
            cost_model.sample_flops(shape, layers, lengths, config),
            cost_model.memory_gigabytes(shape, layers, lengths, config, 8),
        )

    assert all(few < many for few, many in zip(cost(run, 8, short), cost(run, 32, short), strict=True))
    assert all(few < many for few, many in zip(cost(run, 8, short), cost(run, 8, long), strict=True))
    assert cost(plain, 8, short)[0] < cost(run, 8, short)[0] and cost(plain, 8, short)[1] > cost(run, 8, short)[1]
    saved = 1 - cost(run, 8, short)[0] / cost(run, 32, short)[0]
    assert saved == pytest.approx(0.045, abs=0.01)  # a quarter of the layers saves this share of the FLOPs


def test_hours_are_estimated_for_known_gpus_only():
    assert cost_model.gpu_hours(3600 * 312e12, "NVIDIA A100-SXM4-80GB", 0.5) == 2.0
    assert cost_model.gpu_hours(1.0, "Abacus", 0.5) is None


def test_lengths_are_truncated_and_padded_as_in_micro_batches():
    run = composed(["model=llava-1.5-7b", "train.micro_batch_size=2"])
    lengths = cost_model.lengths_in_tokens(np.array([10, 10, -10, 100_000]), run)
    assert lengths.longest == run.model.max_length and lengths.with_image == 0.75
    assert lengths.padded <= run.model.max_length


def test_the_expected_time_is_that_of_the_flops_of_all_samples():
    run = composed(["model=llava-1.5-7b", "train.global_batch_size=8", "train.micro_batch_size=2"])
    image = run.model.num_image_tokens
    tokens = [14 + cost_model.FRAME + image, 28 + cost_model.FRAME]  # 10 words with an image, 20 without

    def flops(workload: Workload) -> float:
        assert workload.images == 1 and workload.supervised_tokens == pytest.approx(sum(tokens) * cost_model.SUPERVISED)
        return workload.tokens * 1e9 + workload.squared_lengths

    expected = 3 * 8 / 2 * (sum(tokens) * 1e9 + sum(number**2 for number in tokens)) / (1e12 * 0.5)
    seconds = cost_model.expected_seconds(np.array([10, -20]), run, steps=3, flops=flops, peak=1e12, mfu=0.5)
    assert seconds == pytest.approx(expected)
