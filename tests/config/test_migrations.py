"""Frozen configurations of older versions are read as if this version had written them; newer ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vrx.config.errors import UserError
from vrx.config.frozen import freeze, load_frozen, thaw
from vrx.config.migrations import SCHEMA_VERSION, migrate_benchmark

OLD = """
job: {name: finetune, _target_: vrx.jobs.finetune.finetune, run: null}
recipe: paper
model: {name: tiny, num_layers: 32, backbone: b, vision_tower: v, projector: p, template: tiny, image_token: i,
  num_image_tokens: 9}
selector: {name: block_influence, _target_: vrx.selectors.most_important, formula: block_influence}
world: {_target_: vrx.tiny.data.build, folder: outputs/data/tiny, num_images: 48, num_questions: 6, seed: 0}
benchmark:
  gqa:
    _target_: vrx.benchmarks.short_answer
    reader: vrx.readers.gqa.rows
    metric: vrx.metrics.gqa_match
    also: {exact: vrx.metrics.exact_match}
    per_type: true
    per_answer: true
    aggregate: vrx.metrics.mean
  pile:
    _target_: vrx.benchmarks.document
    reader: vrx.readers.texts.pile
    metric: vrx.metrics.token_likelihood
    aggregate: vrx.metrics.perplexity
    ask: likelihood
engine: {name: torch, zero_stage: 3, skip_tower: true}
score: {untouched: true}
check: {share_of_peak: 0.4}
seed: 3
"""


def test_dotted_paths_and_old_keys_of_a_frozen_run_are_migrated():
    run = thaw(OLD)
    assert (run.selector.rule, run.job.name, run.seed) == ("most_important", "finetune", 3)
    assert run.world is not None and run.world.name == "tiny" and run.world.num_images == 48
    gqa, pile = run.benchmark["gqa"], run.benchmark["pile"]
    assert (gqa.family, gqa.reader, gqa.metric, gqa.aggregate) == ("short_answer", "gqa", "gqa_match", "mean")
    assert gqa.extra_metrics == {"exact": "exact_match"} and gqa.mean_per_type and gqa.normalized_mean_per_type
    assert (pile.family, pile.reader, pile.output_type) == ("document", "pile", "loglikelihood")
    assert pile.aggregate == "perplexity"
    assert run.engine.skip_vision_tower is True and run.score.base_model is True and run.check.expected_mfu == 0.4


def test_a_migrated_run_is_written_in_the_schema_of_this_version():
    run = thaw(OLD)
    assert freeze(run).startswith(f"schema_version: {SCHEMA_VERSION}\n")
    assert thaw(freeze(run)) == run


def test_settings_that_are_up_to_date_are_left_as_they_are():
    settings = {"family": "document", "metric": "anls", "reader": None, "extra_metrics": {}, "output_type": "text"}
    assert migrate_benchmark(settings) == settings


def test_a_finished_run_is_read_though_it_could_not_run_today():
    run = thaw(OLD.replace("num_layers: 32,", "num_layers: 32, image_processor: forgotten,"))
    assert run.model.image_processor == "forgotten"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("schema_version: 99\nseed: 0\n", "configuration of schema version 99; this vrx reads versions up to"),
        ("seed: [", "not valid YAML"),
        ("- 1\n", "not a frozen run"),
        ("sed: 1\n", "Key 'sed' not in 'RunConfig'"),
    ],
)
def test_an_unreadable_configuration_is_refused_by_name_and_reason(tmp_path: Path, text: str, why: str):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_frozen(path)
    assert str(caught.value).startswith(f"{path}: ") and why in str(caught.value) and "\n" not in str(caught.value)
