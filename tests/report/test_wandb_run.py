"""The W&B run of a record, read back from what an offline run leaves on disk."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
from PIL import Image
from support.wandb_files import of_kind, read_offline_run

from vrx.config.frozen import freeze
from vrx.evaluation import benchmarks, scoring
from vrx.evaluation.prediction_files import PredictionHeader, predictions_file, write_predictions
from vrx.report import wandb_run
from vrx.report.prediction_samples import SampleCounts
from vrx.report.wandb_run import following
from vrx.runs.layer_selection import select_layers
from vrx.runs.record import ModelFacts, Record, ScoreEntry
from vrx.runs.train_summary import TrainSummary
from vrx.runs.typed_json import from_json

RECORD = Record(
    run_id="abcd1234",
    identity={},
    model=ModelFacts("tiny", 32),
    layers=[],
    scores={"tiny_gqa": ScoreEntry(0.5, 6, 0.1)},
    train=TrainSummary(gpu_hours=0.0, mfu=0.4, flops=1e9, bad_images=["a.png"]),
)


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def write_curve(folder: Path, steps: int) -> None:
    row = {"lr": 1e-3, "grad_norm": 2.5, "tokens": 100, "seconds": 0.5}
    rows = [{"step": number, "loss": 5.0 - number, **row} for number in range(steps)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def summary_of(records: list[dict]) -> dict:
    return {key: value for update in of_kind(records, "summary") for key, value in update["update"].items()}


def test_curve_scores_costs_and_axes_are_in_the_run(make_run, tmp_path: Path):
    run = make_run("wandb.mode=offline", "wandb.tags=[mine]", "wandb.group=table1")
    write_curve(tmp_path, 3)
    with following(run, tmp_path, "abcd1234", layers=range(8)) as wandb_logger:
        wandb_logger.follow()
        wandb_logger.finish(RECORD)
    records = read_offline_run(tmp_path)
    (start,) = of_kind(records, "run")
    assert start["run_id"].startswith("abcd1234-")
    assert (start["run_group"], start["job_type"]) == ("table1", "finetune")
    assert {"mine", "tiny", "sparse_uniform"} <= set(start["tags"])
    axes = {"model": "tiny", "selector": "sparse_uniform", "num_layers": 8, "data_fraction": 1, "seed": 0}
    assert axes.items() <= start["config"]["update"].items()
    rows = [row["item"] for row in of_kind(records, "history")]
    assert [(row["train/step"], row["train/loss"]) for row in rows] == [(0, 5), (1, 4), (2, 3)]
    assert {row["train/grad_norm"] for row in rows} == {2.5}
    summary = summary_of(records)
    assert summary["eval/tiny_gqa"] == 0.5
    assert (summary["cost/gpu_hours"], summary["cost/mfu"], summary["cost/flops"]) == (0, 0.4, 1e9)
    assert "cost/bad_images" not in summary


def test_the_number_of_layers_is_that_of_the_layers_tuned_and_the_group_is_the_sweep(make_run, tmp_path: Path):
    run = make_run("wandb.mode=offline", "selector=all", "layer_count=8_layers", "sweep.name=table2")
    with following(run, tmp_path, "abcd1234", layers=select_layers(run)):
        pass
    (start,) = of_kind(read_offline_run(tmp_path), "run")
    assert start["config"]["update"]["num_layers"] == 32
    assert start["run_group"] == "table2"


def test_a_resumed_run_continues_its_wandb_run_and_sends_no_step_twice(make_run, tmp_path: Path):
    run, sent, ids = make_run("wandb.mode=offline"), [], set()
    for steps in (2, 4):
        write_curve(tmp_path, steps)
        with following(run, tmp_path, "abcd1234", layers=range(8)) as wandb_logger:
            wandb_logger.follow()
        records = read_offline_run(tmp_path)
        sent += [(row["step"]["num"], row["item"]["train/step"]) for row in of_kind(records, "history")]
        ids.add(of_kind(records, "run")[0]["run_id"])
        time.sleep(1.1)  # offline folders are named by the second
    assert sent == [(step, step) for step in range(4)]
    assert len(ids) == 1


def test_a_failure_of_wandb_stops_nothing(make_run, tmp_path: Path):
    run = make_run("wandb.mode=offline")
    (tmp_path / "wandb").write_text("a file where wandb needs a folder")
    (tmp_path / "train.jsonl").mkdir()
    with following(run, tmp_path, "abcd1234", layers=range(8)) as wandb_logger:
        wandb_logger.follow()
        wandb_logger.finish(RECORD)


def write_answers(run, folder: Path) -> Record:
    """Answers to the run's benchmarks, and the record they give."""
    scores = {}
    for name, config in run.benchmark.items():
        answers = [sample.answer for sample in benchmarks.samples(name, config, limit=None)]
        write_predictions(predictions_file(folder, name), PredictionHeader("any key"), answers)
        scores[name] = from_json(ScoreEntry, scoring.score_benchmark(config, answers), name)
    (folder / "config.yaml").write_text(freeze(run))
    return dataclasses.replace(RECORD, scores=scores)


def test_predictions_are_sent_where_asked_for_with_small_pictures(
    make_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = make_run("wandb.mode=offline", "benchmark=[tiny_gqa,tiny_ocrvqa]", "wandb.log_predictions=true")
    record = write_answers(run, tmp_path)
    write_curve(tmp_path, 2)
    counts = SampleCounts(num_worst=2, num_random=16, side=224)
    monkeypatch.setattr(wandb_run, "PREDICTIONS", counts)
    with following(run, tmp_path, "abcd1234", layers=range(8)) as wandb_logger:
        wandb_logger.finish(record)
    records = read_offline_run(tmp_path)
    (row,) = [row for row in of_kind(records, "history") if "predictions/tiny_gqa._type" in row["item"]]
    assert row["step"]["num"] == 2  # after the steps of the curve
    table = next((tmp_path / "wandb").glob("offline-run-*/files/media/table/predictions/tiny_gqa_*.table.json"))
    content = json.loads(table.read_text())
    assert content["columns"][:4] == ["id", "chosen as", "image", "question"] and len(content["data"]) == 6
    entries = [entry for artifact in of_kind(records, "artifact") for entry in artifact["manifest"]["contents"]]
    pictures = [entry["local_path"] for entry in entries if entry["path"].endswith(".png")]
    assert pictures and all(Path(path).is_relative_to(tmp_path) for path in pictures)
    for path in pictures:
        with Image.open(path) as picture:
            assert max(picture.size) <= counts.side


def test_predictions_stay_local_by_default(make_run, tmp_path: Path):
    run = make_run("wandb.mode=offline", "benchmark=[tiny_gqa]")
    with following(run, tmp_path, "abcd1234", layers=range(8)) as wandb_logger:
        wandb_logger.finish(write_answers(run, tmp_path))
    folder = tmp_path / "wandb"
    assert not [path for path in folder.rglob("*") if "predictions" in str(path.relative_to(folder))]
