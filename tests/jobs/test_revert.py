"""`job=revert`: layers go back to the backbone, nothing else moves, and each reversion leaves a record of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.composing import composed

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.schema import RunConfig
from vrx.jobs import source_run
from vrx.jobs.revert import driver, worker
from vrx.models import from_run, surgery
from vrx.models.loading import load
from vrx.runs import content_digest, surgery_manifest
from vrx.runs.locks import exclusive_lock
from vrx.runs.record import parse_record, read_record
from vrx.runs.surgery_manifest import LayerSurgery

TEXT = {"input_ids": torch.arange(20, 60).reshape(2, 20), "attention_mask": torch.ones(2, 20, dtype=torch.long)}


@torch.inference_mode()
def text_logits(lvlm):
    return lvlm(**TEXT).logits


def done(folder: Path, source: Path, **what: tuple[int, ...]) -> Path:
    folder.mkdir(parents=True)
    surgery_manifest.write_surgery(folder, LayerSurgery(source, **what))
    return folder


def test_the_backbone_speaks_where_every_layer_is_put_back(tuned: Path, make_run: Callable[..., RunConfig], tmp_path):
    model = make_run().model
    nothing = from_run.load_from_run(model, done(tmp_path / "a", tuned), dtype=torch.float32)
    everything = from_run.load_from_run(
        model, done(tmp_path / "b", tuned, reverted=tuple(range(32))), dtype=torch.float32
    )
    assert torch.equal(text_logits(nothing), text_logits(from_run.load_tuned(model, tuned, dtype=torch.float32)))
    assert torch.equal(text_logits(everything), text_logits(load(model)))
    assert not torch.equal(text_logits(nothing), text_logits(everything))


def test_layers_are_put_back_for_a_while_only(tuned: Path, make_run: Callable[..., RunConfig]):
    model = make_run().model
    lvlm = from_run.load_tuned(model, tuned, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in lvlm.state_dict().items()}
    with surgery.reverted(lvlm, from_run.load_backbone(model), [4, 8, 9]):
        moved = [name for name, tensor in lvlm.state_dict().items() if not torch.equal(tensor, before[name])]
        assert moved and {int(name.split(".")[3]) for name in moved} == {4, 8}  # 9 was not tuned
    assert all(torch.equal(tensor, before[name]) for name, tensor in lvlm.state_dict().items())


def test_answers_know_what_was_done_and_not_where_it_lies(tuned: Path, make_run: Callable[..., RunConfig], tmp_path):
    model = make_run().model
    digests = [
        content_digest.weights_digest(model, done(tmp_path / name, tuned, **what))
        for name, what in {"a": {}, "b": {"reverted": (1,)}, "c": {"pruned": (1,)}, "d": {"reverted": (2,)}}.items()
    ]
    assert digests[0] == content_digest.weights_digest(model, tuned)
    assert len(set(digests)) == 4
    assert content_digest.weights_digest(model, done(tmp_path / "e" / "f", tuned, reverted=(1,))) == digests[1]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ((), [(), *(tuple(range(first, first + 8)) for first in (0, 8, 16, 24)), tuple(range(32))]),
        (("revert.layers=[5,3]",), [(), (3, 5), tuple(range(32))]),
        (("revert.layers=[]",), [(), tuple(range(32))]),
        (("revert.blocks=[[0,0],[4,7]]",), [(), (0,), (4, 5, 6, 7), tuple(range(32))]),
    ],
)
def test_the_ends_come_with_what_was_chosen(make_run: Callable[..., RunConfig], overrides, wanted):
    assert driver.layers_to_revert(make_run("job=revert", *overrides)) == wanted


@pytest.mark.parametrize(
    "given", ["revert.layers=[32]", "revert.layers=[1,1]", "revert.blocks=[[3,2]]", "prune.layers=[-1]"]
)
def test_layers_that_are_not_there_are_refused_by_key(given: str):
    with pytest.raises(ValueError, match=given.partition("=")[0]):
        composed([f"job={given.partition('.')[0]}", given])


def test_a_run_is_found_by_its_directory_or_by_what_it_is(tuned: Path, make_run: Callable[..., RunConfig]):
    named = source_run.find_source(make_run("job=revert", f"job.run={tuned}"))
    assert named is not None and named.run_dir == tuned and named.layers == (0, 4, 8, 12, 18, 22, 26, 30)
    described = source_run.find_source(make_run("job=revert"))
    assert described is not None and described.run_dir == tuned
    assert source_run.find_source(make_run("job=revert", "seed=7")) is None


def test_a_directory_that_holds_no_finished_tuning_is_refused(
    tuned: Path, make_run: Callable[..., RunConfig], tmp_path
):
    with pytest.raises(UserError, match=r"job\.run=.*holds no record\.json"):
        source_run.finished_source(make_run("job=revert", f"job.run={tmp_path}"))
    cut = done(tmp_path / "cut", tuned, pruned=(1,))
    (cut / "record.json").write_bytes((tuned / "record.json").read_bytes())
    with pytest.raises(ValueError, match="valid is the run that was tuned"):
        source_run.find_source(make_run("job=revert", f"job.run={cut}"))


def test_what_another_process_works_on_is_waited_for(tmp_path: Path):
    with exclusive_lock(tmp_path / "a"), source_run.lock_available([tmp_path / "a", tmp_path / "b"]) as mine:
        assert mine == [tmp_path / "b"]


def test_all_reversions_are_answered_by_one_load_and_recorded(
    tuned: Path, make_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    run = make_run("job=revert", f"job.run={tuned}", "benchmark=[tiny_gqa,tiny_mmlu]", "revert.layers=[0,4]")
    started = []

    def in_this_process(stage: str, run_dir: Path, _) -> None:
        started.append(stage)
        worker.revert(load_frozen(run_dir / "config.yaml"), run_dir)

    monkeypatch.setattr(driver, "launch", in_this_process)
    assert driver.progress(run).state == "to do"
    driver.revert(run)
    assert started == ["revert"]
    run_dir = driver.progress(run).run_dir
    assert run_dir is not None
    found = [json.loads(path.read_text()) for path in sorted(run_dir.parent.glob("*/record.json"))]
    assert sorted(len(record["identity"]["reverted"]) for record in found) == [0, 2, 32]
    for record in found:
        parse_record(record)
        assert record["layers"] == [0, 4, 8, 12, 18, 22, 26, 30]
    assert "0, 4: " in capsys.readouterr().out
    assert driver.progress(run).state == "done"
    driver.revert(run)
    assert started == ["revert"]


@pytest.mark.slow
def test_the_command_tunes_first_and_its_repetition_does_nothing(
    vrx: Callable[..., subprocess.CompletedProcess], tmp_path
):
    asked = ("job=revert", "revert.layers=[0]", "benchmark=[tiny_gqa]", "engine.name=torch", "train.max_steps=2")
    small = ("train.global_batch_size=4", "train.micro_batch_size=2")
    told = vrx(*asked, *small)
    assert told.returncode == 0, told.stderr
    assert told.stderr.count("first: vrx finetune") == 1
    before = {path: path.read_bytes() for path in tmp_path.glob("outputs/*/*/*/record.json")}
    assert len(before) == 4
    again = vrx(*asked, *small)
    assert again.stderr.count("nothing to do") == 3 and "first:" not in again.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert read_record(next(iter(before)))
