"""`job=prune`: the least important layers outside the region go, and what is saved needs nothing of us."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jobs.test_revert import done, text_logits

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.schema import RunConfig
from vrx.jobs import source_run
from vrx.jobs.prune import driver, worker
from vrx.models import from_run, surgery
from vrx.runs import files, identity, importance_files, surgery_manifest
from vrx.runs.record import parse_record, read_record
from vrx.runs.surgery_manifest import LayerSurgery

DEPTH, REGION = 32, (0, 4, 8, 12, 18, 22, 26, 30)
FALLING = [float(DEPTH - layer) for layer in range(DEPTH)]  # the last layer is the least important


@pytest.fixture
def scored(tuned: Path, make_run: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """Compose a pruning whose source run has these scores."""

    def make(*overrides: str, values: list[float] = FALLING) -> RunConfig:
        run = make_run("job=prune", f"job.run={tuned}", "benchmark=[tiny_gqa]", *overrides)
        told = {"version": importance_files.VERSION, "model": identity.base_identity(run), "scored": None}
        told["made_from"] = "f" * 16
        names = ("angular_distance_inputs", "angular_distance_weights")
        files.write_json(
            importance_files.scores_file(run, tuned.name), {**told, "scores": dict.fromkeys(names, values)}
        )
        return run

    return make


def layers_to_prune(run: RunConfig) -> tuple[int, ...]:
    source = source_run.finished_source(run)
    return driver.layers_to_prune(run, source, driver.read_ranking(run, source))


@pytest.mark.parametrize(
    ("overrides", "layers"),
    [
        (("prune.num_layers=0",), ()),
        (("prune.num_layers=3",), (28, 29, 31)),  # 30 is of the region
        (("prune.num_layers=3", "prune.outside_region=false"), (29, 30, 31)),
        (("prune.num_layers=24",), tuple(layer for layer in range(DEPTH) if layer not in REGION)),
        (("prune.layers=[7,0]",), (0, 7)),
    ],
)
def test_the_least_important_layers_are_chosen(scored: Callable[..., RunConfig], overrides, layers):
    assert layers_to_prune(scored(*overrides)) == layers


def test_fewer_layers_outside_the_region_than_asked_for_is_refused_with_the_numbers(scored: Callable[..., RunConfig]):
    with pytest.raises(ValueError, match=r"prune\.num_layers=25: only 24 of the 32 layers lie outside the region"):
        layers_to_prune(scored("prune.num_layers=25"))


def test_scores_that_do_not_rank_are_refused(scored: Callable[..., RunConfig]):
    flat = [float(layer in REGION) for layer in range(DEPTH)]  # as weights are that did not change outside the region
    with pytest.raises(ValueError, match="24 of the 24 layers have the same score, 0, and no order"):
        layers_to_prune(scored("prune.num_layers=2", "prune.score=angular_distance_weights", values=flat))
    everything = scored("prune.num_layers=24", "prune.score=angular_distance_weights", values=flat)
    assert len(layers_to_prune(everything)) == 24


def test_scores_are_named_where_they_are_missing(scored: Callable[..., RunConfig], tmp_path: Path):
    with pytest.raises(UserError, match="no importance scores"):
        layers_to_prune(scored("prune.num_layers=1", f"prune.scores={tmp_path / 'none.json'}"))
    with pytest.raises(ValueError, match=r"prune\.score=block: "):
        layers_to_prune(scored("prune.num_layers=1", "prune.score=block"))


def test_pruning_shares_the_tensors_and_leaves_the_lvlm_alone(tuned: Path, make_run: Callable[..., RunConfig]):
    whole = from_run.load_tuned(make_run().model, tuned, dtype=torch.float32)
    before, cut = text_logits(whole), worker.copy_with_shared_tensors(whole)
    surgery.prune_layers(cut, [1, 2])
    assert torch.equal(text_logits(whole), before) and not torch.equal(text_logits(cut), before)
    ours = {tensor.data_ptr() for tensor in whole.parameters()}
    assert {tensor.data_ptr() for tensor in cut.parameters()} < ours


WITHOUT_US = """
import sys, torch
from transformers import AutoModelForImageTextToText
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1]).eval()
with torch.inference_mode():
    logits = model(input_ids=torch.arange(20, 60).reshape(2, 20), attention_mask=torch.ones(2, 20).long()).logits
torch.save(logits, sys.argv[2])
assert not [name for name in sys.modules if name.startswith("vrx")]
assert model.config.text_config.num_hidden_layers == len(model.model.language_model.layers) == 30
"""


def test_a_pruned_run_is_measured_saved_and_recorded(
    tuned: Path, scored: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    run = scored("prune.num_layers=2", "eval.batch_size=2")
    started = []

    def in_this_process(stage: str, run_dir: Path, _) -> None:
        started.append(stage)
        worker.prune(load_frozen(run_dir / "config.yaml"), run_dir)

    monkeypatch.setattr(driver, "launch", in_this_process)
    assert driver.progress(run).state == "to do"
    driver.prune(run)
    assert started == ["prune"] and driver.progress(run).state == "done"
    folder = driver.progress(run).run_dir
    assert folder is not None
    record = json.loads((folder / "record.json").read_text())
    parse_record(record)
    told = record["pruned"]
    assert record["identity"]["pruned"] == [29, 31] and told["by"] == ["angular_distance_inputs outside the region"]
    scores = {"formula": "angular_distance_inputs", "values": FALLING, "made_from": "f" * 16}
    assert record["layer_scores"] == scores
    assert told["parameters"]["after"] < told["parameters"]["before"] and told["tokens_per_second"]["after"] > 0

    saved = folder / "pruned"
    assert "layers 29, 31" in (saved / "README.md").read_text()
    subprocess.run([sys.executable, "-c", WITHOUT_US, saved, tmp_path / "logits"], check=True, timeout=120)
    in_memory = from_run.load_from_run(run.model, done(tmp_path / "cut", tuned, pruned=(29, 31)), dtype=torch.float32)
    ours = text_logits(from_run.load_from_run(run.model, folder, dtype=torch.float32))
    assert torch.equal(torch.load(tmp_path / "logits"), ours) and torch.equal(ours, text_logits(in_memory))

    listed = dataclasses.replace(run, prune=dataclasses.replace(run.prune, layers=[29, 31]))  # by another way
    assert driver.progress(listed).reason == "its record does not say that a list chooses these layers too"
    driver.prune(listed)
    assert driver.progress(listed).state == "done"
    assert started == ["prune"]
    again = json.loads((folder / "record.json").read_text())
    assert again["pruned"]["by"] == ["a list", "angular_distance_inputs outside the region"]
    assert again["layer_scores"] == scores
    assert surgery_manifest.read_surgery(folder) == LayerSurgery(tuned, pruned=(29, 31))


@pytest.mark.slow
def test_the_command_tunes_and_scores_first(vrx: Callable[..., subprocess.CompletedProcess], tmp_path: Path):
    small = ("engine.name=torch", "train.max_steps=2", "train.global_batch_size=4", "train.micro_batch_size=2")
    small += ("score.samples_per_benchmark=2",)
    asked = ("job=prune", "prune.num_layers=2", "benchmark=[tiny_gqa]", "prune.save=false")
    told = vrx(*asked, *small)
    assert told.returncode == 0, told.stderr
    assert "first: vrx finetune" in told.stderr and "first: vrx score" in told.stderr
    (record,) = tmp_path.glob("outputs/prune/tiny/*/record.json")
    assert not set(read_record(record).pruned_layers or ()) & set(REGION)
    assert not (record.parent / "pruned").exists()
    assert "nothing to do" in vrx(*asked, *small).stderr
