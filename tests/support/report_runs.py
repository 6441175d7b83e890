"""Finished runs on disk for tests of the report: predictions of a chosen skill, and the records they give."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from vrx.config.schema import BenchmarkConfig
from vrx.evaluation import benchmarks, scoring
from vrx.evaluation.prediction_files import PredictionHeader, predictions_file, write_predictions
from vrx.report.collect import Run, find_runs
from vrx.report.paper import load_paper
from vrx.report.question_scores import QuestionScores, question_scores
from vrx.report.tables import Table, TableRow, build_tables
from vrx.runs.files import digest, write_atomic, write_json
from vrx.runs.record import ModelFacts, Record, parse_record
from vrx.selectors.rules import sparse_uniform

PAPER = load_paper()
GOLDEN = Path(__file__).parents[1] / "golden" / "report"
VISUAL = PAPER.artifacts["table1"].columns
ALL, SPARSE, TOP = tuple(range(32)), sparse_uniform(32, 8), tuple(range(24, 32))
BUNNY = "bunny-llama3-8b"
NUM_QUESTIONS = 40
EMPTY_RECORD = Record("0", {}, ModelFacts("m", 32), [], {})
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"


def write_benchmark(root: Path, name: str) -> BenchmarkConfig:
    """A benchmark of forty questions with images, written once; MMBench asks each question in two rotations."""
    folder, path = root / "data" / "images", root / "data" / f"{name}.jsonl"
    is_choice = name.endswith("mmbench")
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(NUM_QUESTIONS):
            Image.new("RGB", (200, 100) if number % 2 else (32, 32), (number, 80, 160)).save(folder / f"{number}.png")
            question = f"{HOSTILE if number == 3 else ''} {number}?"
            line = {"id": str(number), "image": f"{number}.png", "question": question}
            choice = {"choices": ["x", "y"], "answer": "A", "group": str(number // 2)}
            lines.append(json.dumps(line | (choice if is_choice else {"answers": ["A"]})))
        write_atomic(path, "\n".join(lines) + "\n")
    return BenchmarkConfig(
        family="multiple_choice" if is_choice else "short_answer",
        path=str(path),
        image_folder=str(folder),
        metric="mmlu_letter",
        aggregate="circular" if is_choice else "mean",
    )


def write_run(
    root: Path,
    layers: tuple[int, ...],
    *,
    model: str = BUNNY,
    columns: tuple[str, ...] = VISUAL,
    skill: float = 0.6,
    seed: int = 0,
    fraction: float = 1.0,
    lr: float = 2e-4,
    depth: int = 32,
    selectors: Sequence[str] = (),
    train: dict[str, Any] | None = None,
) -> Run:
    """A finished run with random answers, about a share `skill` of them right; without layers, an untouched LVLM."""
    identity: dict[str, Any] = {"model": {"name": model, "num_layers": depth}, "weights": {"backbone": model}}
    if layers:
        data = {"sha256": "d" * 64, "fraction": fraction}
        identity |= {"layers": list(layers), "data": data, "lora": {"r": 8}, "train": {"lr": lr}, "engine": {"zero": 3}}
        identity["seed"] = seed
    run_id = digest(identity)[:8]
    folder = root / ("finetune" if layers else "evaluate") / model / f"run-{len(layers)}_{run_id}"
    configs, scores = {}, {}
    for name in columns:
        configs[name] = write_benchmark(root, name)
        generator, answers = random.Random(f"{sorted(layers)} {seed} {fraction} {lr} {name}"), []
        for sample in benchmarks.samples(name, configs[name], limit=None):
            wrong = HOSTILE if sample.answer.id == "3" else "B"
            answers.append(dataclasses.replace(sample.answer, text="A" if generator.random() < skill else wrong))
        write_predictions(predictions_file(folder, name), PredictionHeader("any key"), answers)
        scores[name] = scoring.score_benchmark(configs[name], answers)
    benchmark_settings = {name: dataclasses.asdict(config) for name, config in configs.items()}
    write_atomic(folder / "config.yaml", yaml.safe_dump({"benchmark": benchmark_settings}))
    record = {
        "run_id": run_id,
        "identity": identity,
        "layers": list(layers),
        "selectors": list(selectors),
        "train": (train or {"steps": 10, "seconds": 100.0 + len(layers), "gpu_hours": 0.0}) if layers else None,
        "scores": scores,
        "provenance": {"git_commit": None},
    }
    write_json(folder / "record.json", record)
    return Run(folder, parse_record(record))


def tables_of(root: Path, name: str) -> list[Table]:
    """A table of the paper from the runs below a folder."""
    runs = find_runs(root)
    return build_tables(PAPER.artifacts[name], PAPER, runs, question_scores(runs))


def row_of(table: Table, label: str) -> TableRow:
    return next(row for row in table.rows if row.label == label)


def golden_runs() -> tuple[list[Run], QuestionScores]:
    """The committed records and their scores by question."""
    entries = json.loads((GOLDEN / "records.json").read_text())
    scores = {entry["folder"]: entry["scores"] for entry in entries}
    runs = [Run(Path(entry["folder"]), parse_record(entry["record"])) for entry in entries]
    return runs, lambda run, name: scores[str(run.folder)].get(name)
