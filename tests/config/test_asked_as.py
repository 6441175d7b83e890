"""Models with their own chat template are asked as they are used to; what a user set stays."""

from __future__ import annotations

import dataclasses

import pytest
from support.composing import composed
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from vrx.config.asked_as import _ways, asked_as, with_own_questions
from vrx.config.schema import BenchmarkConfig, ModelConfig, RunConfig


@pytest.fixture(scope="module")
def visual() -> dict[str, BenchmarkConfig]:
    return composed(["benchmark=visual"]).benchmark


def test_models_assembled_from_parts_are_asked_as_before(visual: dict[str, BenchmarkConfig]) -> None:
    run = RunConfig(benchmark=visual)
    assert with_own_questions(run) is run


@pytest.mark.parametrize(
    ("architecture", "scale", "metric"),
    [
        ("qwen2_5_vl", "resized", "box_accuracy_in_frame"),
        ("qwen3_vl", "1000", "box_accuracy_in_frame"),
        ("internvl", "1000", "box_accuracy_in_frame"),
        ("paligemma", None, "box_accuracy_loc"),
        ("gemma3", None, "box_accuracy_unpadded"),
    ],
)
def test_boxes_are_asked_for_and_read_in_the_models_coordinates(
    visual: dict[str, BenchmarkConfig], architecture: str, scale: str | None, metric: str
) -> None:
    asked = asked_as("refcocog", visual["refcocog"], architecture)
    assert (asked.box_scale, asked.metric) == (scale, metric)
    assert "{question}" in asked.prompt


def test_key_that_was_set_stays(visual: dict[str, BenchmarkConfig]) -> None:
    own = dataclasses.replace(visual["docvqa"], prompt="Read: {question}")
    assert asked_as("docvqa", own, "qwen2_5_vl").prompt == "Read: {question}"
    other = asked_as("docvqa", visual["docvqa"], "qwen2_5_vl")
    assert other.prompt == "{question}\nAnswer the question using a single word or phrase."
    assert asked_as("docvqa", other, "qwen2_5_vl") == other


def test_control_with_other_pictures_is_asked_as_its_benchmark(visual: dict[str, BenchmarkConfig]) -> None:
    control = asked_as("refcocog_shuffled_images", visual["refcocog"], "qwen3_vl")
    assert control == asked_as("refcocog", visual["refcocog"], "qwen3_vl")


def test_every_entry_names_keys_and_architectures_that_there_are() -> None:
    keys = {field.name for field in dataclasses.fields(BenchmarkConfig)}
    for way in _ways():
        assert set(way) - {"benchmarks", "architectures"} <= keys
        assert set(way.get("architectures", [])) <= set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def test_run_of_such_a_model_carries_its_questions(visual: dict[str, BenchmarkConfig]) -> None:
    run = RunConfig(model=ModelConfig(architecture="qwen3_vl", lvlm="x"), benchmark=visual)
    assert with_own_questions(run).benchmark["refcocog"].box_scale == "1000"
