"""Tables, figures and the page say what the records say: matched by what was trained, judged by the same questions.

The golden files are made from `golden/report/records.json`; `VRX_RENEW_GOLDEN=1 pytest tests/test_report.py` writes
them again.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import html
import io
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vrx.config.frozen import freeze
from vrx.config.schema import BenchmarkConfig, RunConfig
from vrx.evaluation import benchmarks, prediction_files, scoring
from vrx.evaluation.prediction_files import PredictionHeader
from vrx.jobs.report.driver import report
from vrx.report import bootstrap, collect, formats, paper, paper_artifacts, plots, tables
from vrx.report.bootstrap import paired_bootstrap, paired_bootstrap_of_average
from vrx.report.collect import Run, find_runs, scorer
from vrx.report.prediction_samples import RANDOM, WORST, galleries
from vrx.runs.files import digest, write_atomic, write_json
from vrx.runs.layer_selection import format_layers
from vrx.runs.record import ModelFacts, Record, parse_record
from vrx.selectors.rules import sparse_uniform

PAPER = paper.load()
GOLDEN = Path(__file__).parents[1] / "golden" / "report"
VISUAL = PAPER.artefacts["table1"].columns
ALL, SPARSE, TOP = tuple(range(32)), sparse_uniform(32, 8), tuple(range(24, 32))
BUNNY = "bunny-llama3-8b"
QUESTIONS = 40
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"


def benchmark(root: Path, name: str) -> BenchmarkConfig:
    """A benchmark of forty questions with pictures, made once; MMBench's are asked in two rotations each."""
    folder, path = root / "data" / "images", root / "data" / f"{name}.jsonl"
    choice = name.endswith("mmbench")
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(QUESTIONS):
            Image.new("RGB", (200, 100) if number % 2 else (32, 32), (number, 80, 160)).save(folder / f"{number}.png")
            line = {
                "id": str(number),
                "image": f"{number}.png",
                "question": f"{HOSTILE if number == 3 else ''} {number}?",
            }
            line |= {"choices": ["x", "y"], "answer": "A", "group": str(number // 2)} if choice else {"answers": ["A"]}
            lines.append(json.dumps(line))
        write_atomic(path, "\n".join(lines) + "\n")
    return BenchmarkConfig(
        family="multiple_choice" if choice else "short_answer",
        path=str(path),
        image_folder=str(folder),
        metric="mmlu_letter",
        aggregate="circular" if choice else "mean",
    )


def make(
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
    train: dict[str, Any] | None = None,
) -> Run:
    """A finished run on disk: answers by lot, of which about `skill` are right, and the record they give."""
    identity: dict[str, Any] = {"model": {"name": model, "num_layers": depth}, "weights": {"backbone": model}}
    if layers:
        data = {"sha256": "d" * 64, "fraction": fraction}
        identity |= {"layers": list(layers), "data": data, "lora": {"r": 8}, "train": {"lr": lr}, "engine": {"zero": 3}}
        identity["seed"] = seed
    short = digest(identity)[:8]
    folder = root / ("finetune" if layers else "evaluate") / model / f"run-{len(layers)}_{short}"
    configs, scores = {}, {}
    for name in columns:
        configs[name] = benchmark(root, name)
        lots, found = random.Random(f"{sorted(layers)} {seed} {fraction} {lr} {name}"), {}
        for sample in benchmarks.samples(name, configs[name], limit=None):
            wrong = HOSTILE if sample.answer.id == "3" else "B"
            text = "A" if lots.random() < skill else wrong
            found[sample.answer.id] = dataclasses.replace(sample.answer, text=text)
        prediction_files.write_predictions(
            prediction_files.predictions_file(folder, name), PredictionHeader("any key"), found.values()
        )
        scores[name] = scoring.score_benchmark(configs[name], list(found.values()))
    told = {name: dataclasses.asdict(config) for name, config in configs.items()}
    write_atomic(folder / "config.yaml", yaml.safe_dump({"benchmark": told}))
    trained = train or {"steps": 10, "seconds": 100.0 + len(layers), "gpu_hours": 0.0}
    record = {
        "run_id": short,
        "identity": identity,
        "layers": list(layers),
        "train": trained if layers else None,
        "scores": scores,
        "provenance": {"git_commit": None},
    }
    write_json(folder / "record.json", record)
    return Run(folder, parse_record(record))


NO_SCORES = Record("0", {}, ModelFacts("m", 32), [], {})


def build(root: Path, name: str) -> list[tables.Table]:
    found = find_runs(root)
    return tables.build(PAPER.artefacts[name], PAPER, found, scorer(found))


def row(table: tables.Table, label: str) -> tables.Row:
    return next(row for row in table.rows if row.label == label)


def test_the_benchmarks_of_a_run_are_read_from_its_frozen_configuration(
    make_run: Callable[..., RunConfig], tmp_path: Path
):
    for number, chosen in enumerate(("all", "tiny", "[]")):  # prompts of several lines among them
        run = make_run(f"benchmark={chosen}")
        folder = tmp_path / str(number)
        write_atomic(folder / "config.yaml", freeze(run))
        assert collect.benchmark_configs(Run(folder, NO_SCORES)) == run.benchmark
    assert collect.benchmark_configs(Run(tmp_path / "none", NO_SCORES)) == {}


# ---- the bootstrap

SCORES = st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=10, max_size=60)


@settings(deadline=None, max_examples=25)
@given(a=SCORES, seed=st.integers(0, 99))
def test_a_run_does_not_differ_from_itself(a: list[float], seed: int):
    found = paired_bootstrap(a, a, seed)
    assert (found.value, found.low, found.high, found.p, found.beyond_chance) == (0, 0, 0, 1, False)


@settings(deadline=None, max_examples=25)
@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=10, max_size=60), seed=st.integers(0, 99))
def test_a_difference_lies_in_its_interval_and_turns_with_the_sides(pairs: list[tuple[float, float]], seed: int):
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    found, turned = paired_bootstrap(a, b, seed), paired_bootstrap(b, a, seed)
    assert found == paired_bootstrap(a, b, seed)
    assert found.value == pytest.approx(statistics.fmean(a) - statistics.fmean(b))
    assert found.low - 1e-12 <= found.value <= found.high + 1e-12
    assert turned.value == pytest.approx(-found.value)
    assert 0 < found.p <= 1


def test_the_interval_is_as_wide_as_the_standard_error_says():
    lots = random.Random(0)
    a, b = ([lots.random() for _ in range(500)] for _ in range(2))
    found = paired_bootstrap(a, b)
    error = statistics.stdev(x - y for x, y in zip(a, b, strict=True)) / 500**0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_chance_alone_is_marked_about_one_time_in_twenty():
    marked = 0
    for number in range(200):
        lots = random.Random(number)
        a, b = ([float(lots.random() < 0.6) for _ in range(100)] for _ in range(2))
        marked += paired_bootstrap(a, b, number).beyond_chance
    assert 2 <= marked <= 22


def test_pairing_sees_what_unpaired_errors_hide():
    base = [float(number % 2) for number in range(200)]
    better = [1.0 if number in (0, 2, 4, 6, 8, 10, 12, 14) else value for number, value in enumerate(base)]
    assert paired_bootstrap(better, base).beyond_chance  # 4 points, with a standard error of 3.5 on either side


def test_an_average_weighs_benchmarks_alike_and_is_surer_than_each():
    lots = random.Random(1)
    pairs = [tuple([float(lots.random() < skill) for _ in range(150)] for skill in (0.7, 0.6)) for _ in range(8)]
    average = paired_bootstrap_of_average(pairs)
    single = [paired_bootstrap(*pair) for pair in pairs]
    assert average.value == pytest.approx(statistics.fmean(one.value for one in single))
    assert average.high - average.low < min(one.high - one.low for one in single)


def test_scores_of_other_questions_are_not_compared():
    ours = {str(number): 1.0 for number in range(20)}
    assert bootstrap.in_common([ours], [ours]) == ([1.0] * 20, [1.0] * 20)
    assert bootstrap.in_common([ours], [{**ours, "more": 0.0}]) is None
    assert bootstrap.in_common([ours], []) is None
    assert bootstrap.in_common([{"a": 1.0}], [{"a": 0.0}]) is None  # one question says nothing
    with pytest.raises(ValueError, match="2 and 1 scores"):
        paired_bootstrap([1, 0], [1])


# ---- which runs a row is made from


def test_a_row_is_found_by_its_layers_whatever_they_are_called(tmp_path: Path):
    make(tmp_path, ALL)
    sparse = make(tmp_path, tuple(reversed(SPARSE)))
    make(tmp_path, (1, 5, 9, 13, 19, 23, 27, 31))  # the released code's list is no row of the paper
    (table,) = build(tmp_path, "table1")
    assert [part.folder for part in row(table, "Sparse & Uniform").runs] == [sparse.folder]
    assert sum(len(part.runs) for part in table.rows) == 2


def test_selectors_that_the_paper_does_not_print_have_rows_of_their_own(tmp_path: Path):
    def named(run: Run, *names: str) -> Run:
        dataclasses.replace(run.record, selectors=list(names)).write(run.folder / "record.json")
        return run

    make(tmp_path, ALL)
    named(make(tmp_path, SPARSE), "sparse_uniform", "block_influence")
    for seed, layers in enumerate([(0, 1, 2, 3, 9, 10, 11, 12), (0, 1, 2, 3, 9, 10, 11, 13)]):
        named(make(tmp_path, layers, seed=seed), "random")
    named(make(tmp_path, (5, 6)), "parameter_change")  # not as many layers as the table's rows
    (table,) = build(tmp_path, "table1")
    ours = [part for part in table.rows if part.label.startswith("Ours: ")]
    assert [part.label for part in ours] == ["Ours: block influence", "Ours: random"]
    assert [part.layers for part in ours] == [SPARSE, None]
    assert [len(part.runs) for part in ours] == [1, 2]
    assert ours[1].cells["average"].num_seeds == 2
    assert ours[0].cells["gqa"].published is None
    assert len(row(table, "Sparse & Uniform").runs) == 1
    assert "Ours: random (2 seeds)" in formats.render_markdown(table)


def test_other_amounts_of_data_fill_other_rows(tmp_path: Path):
    make(tmp_path, ALL)
    make(tmp_path, SPARSE, fraction=0.25)
    assert build(tmp_path, "table2") == []
    (table,) = build(tmp_path, "figure2")
    assert [part.label for part in table.rows if part.runs] == [
        "100 % of the data, 32 layers",
        "25 % of the data, 8 layers",
    ]


def test_runs_that_differ_in_more_stand_in_tables_of_their_own(tmp_path: Path):
    make(tmp_path, ALL)
    make(tmp_path, SPARSE)
    make(tmp_path, (31,))
    for layers in (SPARSE, (31,)):
        make(tmp_path, layers, lr=1e-3)
    make(tmp_path, SPARSE, lr=1e-4)  # a row alone is no table; the list of runs has it
    one, other = build(tmp_path, "table2")
    assert (one.name, other.name) == (f"table2_{BUNNY}", f"table2_{BUNNY}_2")
    assert row(one, "8 layers").cells["share"].value is not None
    assert row(other, "8 layers").cells["share"].value is None  # its all-layers run is not there
    assert one.title.endswith("(train.lr=0.0002)")
    assert other.title.endswith("(train.lr=0.001)")


def test_a_table_does_not_depend_on_the_order_of_the_runs(tmp_path: Path):
    found = [make(tmp_path, layers, seed=seed) for layers in (ALL, SPARSE, TOP) for seed in (0, 1)]
    texts = set()
    for number in range(4):
        random.Random(number).shuffle(found)
        texts |= {
            formats.render_markdown(t) for t in tables.build(PAPER.artefacts["table1"], PAPER, found, scorer(found))
        }
    assert len(texts) == 1


def test_a_row_is_in_the_layers_of_another_depth_too():
    (eight,) = [part for part in PAPER.artefacts["table1"].rows if part.label == "Sparse & Uniform"]
    assert tables.layers_of(eight, 32, PAPER) == SPARSE
    assert tables.layers_of(eight, 40, PAPER) == sparse_uniform(40, 8)
    assert tables.layers_of(eight, 6, PAPER) is None
    for part in PAPER.artefacts["table1"].rows:
        layers = tables.layers_of(part, 40, PAPER)
        assert layers is None if part.selector.endswith("_paper") else layers == tuple(sorted(set(layers)))


# ---- what a cell says


def test_cells_are_the_records_in_percent_beside_the_papers(tmp_path: Path):
    whole, sparse = make(tmp_path, ALL, skill=0.9), make(tmp_path, SPARSE, skill=0.5)
    (table,) = build(tmp_path, "table2")
    cell, base = row(table, "8 layers").cells["gqa"], whole.record.scores["gqa"].value
    entry = sparse.record.scores["gqa"]
    assert cell.value == pytest.approx(100 * entry.value)
    assert cell.error == pytest.approx(100 * entry.stderr)
    assert cell.share == pytest.approx(100 * entry.value / base)
    assert (cell.published, cell.num_seeds, cell.num_samples) == (63.68, 1, QUESTIONS)
    assert cell.difference == pytest.approx(cell.value - 63.68)
    assert cell.versus is not None
    assert cell.versus.value == pytest.approx(100 * (entry.value - base))
    average = row(table, "8 layers").cells["average"]
    assert average.value == pytest.approx(statistics.fmean(row(table, "8 layers").cells[c].value for c in VISUAL))
    assert average.versus is not None
    assert average.versus.beyond_chance
    assert row(table, "32 layers").cells["share"].value == 100
    assert row(table, "32 layers").cells["average"].versus is None
    assert row(table, "16 layers").cells["gqa"].value is None


def test_of_several_seeds_there_is_the_mean_and_their_spread(tmp_path: Path):
    made = [make(tmp_path, SPARSE, seed=seed) for seed in range(3)]
    (table,) = build(tmp_path, "table2")
    cell = row(table, "8 layers").cells["tdiuc"]
    values = [100 * run.record.scores["tdiuc"].value for run in made]
    assert (cell.value, cell.error) == (pytest.approx(statistics.fmean(values)), statistics.stdev(values))
    assert cell.num_seeds == 3
    assert any("standard deviation" in note and "3 seeds" in note for note in table.notes)


def test_an_average_takes_every_column(tmp_path: Path):
    make(tmp_path, ALL)
    make(tmp_path, SPARSE, columns=VISUAL[:3])
    (table,) = build(tmp_path, "table2")
    cells = row(table, "8 layers").cells
    assert cells["ocrvqa"].value is not None
    assert (cells["textvqa"].value, cells["average"].value, cells["share"].value) == (None, None, None)


def test_a_misprint_is_marked_and_the_right_number_compared(tmp_path: Path):
    make(tmp_path, TOP)
    (table,) = build(tmp_path, "table1")
    cell = row(table, "Consecutive Top").cells["average"]
    assert cell.published == 58.08
    assert cell.difference == pytest.approx(cell.value - 59.33)
    assert any("Consecutive Top" in note and "59.33" in note for note in table.notes)


def test_a_model_that_is_not_the_papers_gets_shares_and_no_scores(tmp_path: Path):
    columns = tuple(f"tiny_{column}" for column in VISUAL)
    make(tmp_path, ALL, model="tiny", columns=columns)
    make(tmp_path, SPARSE, model="tiny", columns=columns)
    (table,) = build(tmp_path, "table2")
    cells = row(table, "8 layers").cells
    assert all(cells[column].value is not None and cells[column].published is None for column in VISUAL)
    assert cells["share"].published == 99.00
    assert cells["average"].published is None
    assert [t.name for t in paper_artifacts.all_tables(PAPER, find_runs(tmp_path), scorer(find_runs(tmp_path)))] == [
        *("table1_tiny", "table2_tiny", "figure2_tiny")
    ]


def test_the_backbone_is_the_run_that_was_not_tuned(tmp_path: Path):
    make(tmp_path, (), columns=("mmlu",), skill=0.9)
    make(tmp_path, ALL, columns=("mmlu",))
    (table,) = build(tmp_path, "table4")
    assert row(table, "Backbone").cells["mmlu"].published == 66.01
    assert row(table, "Backbone").cells["mmlu"].versus is not None
    assert row(table, "Backbone").cells["bbh"].value is None
    assert "average" not in table.columns


def test_answers_that_do_not_give_the_records_score_judge_nothing(tmp_path: Path):
    make(tmp_path, ALL)
    sparse = make(tmp_path, SPARSE)
    assert row(build(tmp_path, "table2")[0], "8 layers").cells["gqa"].versus is not None
    path = prediction_files.predictions_file(sparse.folder, "gqa")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line.replace('"text": "B"', '"text": "A"') for line in lines[1:])]) + "\n")
    cells = row(build(tmp_path, "table2")[0], "8 layers").cells
    assert cells["gqa"].versus is None
    assert cells["average"].versus is None
    assert cells["tdiuc"].versus is not None


@pytest.mark.parametrize("harm", ["config.yaml", "answers"])
def test_without_answers_or_configuration_the_scores_still_stand(tmp_path: Path, harm: str):
    for layers in (ALL, SPARSE):
        folder = make(tmp_path, layers).folder
        shutil.rmtree(folder / harm) if harm == "answers" else (folder / harm).write_text("benchmark: [")
    cell = row(build(tmp_path, "table2")[0], "8 layers").cells["gqa"]
    assert cell.value is not None
    assert cell.versus is None


def test_a_question_asked_in_rotations_is_compared_as_one(tmp_path: Path):
    run = make(tmp_path, SPARSE)
    scores = scorer([run])(run, "mmbench")
    assert scores is not None
    assert len(scores) == QUESTIONS / 2 == run.record.scores["mmbench"].num_samples


def test_a_frozen_configuration_tells_its_benchmarks(tmp_path: Path, make_run: Callable[..., RunConfig]):
    run = make_run()
    (tmp_path / "config.yaml").write_text(freeze(run), encoding="utf-8")
    assert collect.benchmark_configs(Run(tmp_path, NO_SCORES)) == run.benchmark


# ---- records


def test_what_is_no_record_is_named_in_one_line_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture):
    good = make(tmp_path, SPARSE)
    record = good.record.to_json()
    wrong: dict[str, Any] = {
        "corrupt": '{"run_id": ',
        "list": "[1, 2]",
        "foreign": '{"model": "mine", "accuracy": 0.5}',
        "percent": json.dumps({**record, "scores": {"gqa": {"value": 61.6, "stderr": 0.1, "num_samples": 9}}}),
        "nan": json.dumps({**record, "scores": {"gqa": {"value": float("nan"), "stderr": 0, "num_samples": 9}}}),
        "layers": json.dumps({**record, "layers": [40]}),
    }
    for name, text in wrong.items():
        write_atomic(tmp_path / "finetune" / "m" / name / "record.json", text)
    (tmp_path / "finetune" / "m" / "bytes").mkdir()
    (tmp_path / "finetune" / "m" / "bytes" / "record.json").write_bytes(b"\xff\xfe")
    assert [run.folder for run in find_runs(tmp_path)] == [good.folder]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(wrong) + 1
    for name in (*wrong, "bytes"):
        assert sum(f"{name}/record.json" in line for line in told) == 1


def test_a_run_of_another_kind_is_listed_but_in_no_table(tmp_path: Path):
    run = make(tmp_path, SPARSE)
    pruned = dataclasses.replace(run.record, identity={**run.record.identity, "pruned": [3]})
    pruned.write(run.folder / "record.json")
    assert len(find_runs(tmp_path)) == 1
    assert build(tmp_path, "table2") == []


def test_a_copied_run_counts_once(tmp_path: Path):
    run = make(tmp_path, SPARSE)
    shutil.copytree(run.folder, run.folder.with_name("copy"))
    assert len(find_runs(tmp_path)) == 1


# ---- as text


def golden() -> tuple[list[Run], collect.Scores]:
    told = json.loads((GOLDEN / "records.json").read_text())
    found = [Run(Path(one["folder"]), parse_record(one["record"])) for one in told]
    scores = {one["folder"]: one["scores"] for one in told}
    return found, lambda run, name: scores[str(run.folder)].get(name)


RENDERERS = {"md": formats.render_markdown, "tex": formats.render_latex, "csv": formats.render_csv}


@pytest.mark.parametrize("form", RENDERERS)
def test_the_golden_tables(form: str):
    found, scores = golden()
    made = {
        f"{table.name}.{form}": RENDERERS[form](table) for table in paper_artifacts.all_tables(PAPER, found, scores)
    }
    assert set(made) == {f"{name}.{form}" for name in (f"table1_{BUNNY}", f"table2_{BUNNY}", f"figure2_{BUNNY}")} | {
        f"{name}_tiny.{form}" for name in ("table1", "table2", "table4", "figure2")
    }
    for name, text in made.items():
        if os.environ.get("VRX_RENEW_GOLDEN"):
            (GOLDEN / name).write_text(text, encoding="utf-8")
        assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_every_line_of_a_table_has_every_column():
    for table in paper_artifacts.all_tables(PAPER, *golden()):
        lines = [line for line in formats.render_markdown(table).splitlines() if line.startswith("|")]
        assert {line.count("|") for line in lines} == {len(table.columns) + 2}
        rows = [line for line in formats.render_latex(table).splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {len(table.columns)}


def test_csv_gives_the_numbers_back():
    for table in paper_artifacts.all_tables(PAPER, *golden()):
        lines = list(csv.DictReader(io.StringIO(formats.render_csv(table))))
        assert len(lines) == len(table.rows) * len(table.columns)
        cells = {(part.label, column): part.cells[column] for part in table.rows for column in table.columns}
        for line in lines:
            cell = cells[line["row"], line["column"]]
            assert line["value"] == ("" if cell.value is None else f"{cell.value:.6f}")
            assert line["beyond_chance"] == ("" if cell.versus is None else str(cell.versus.beyond_chance))


def test_latex_sees_no_command_in_a_name():
    assert formats.escape_latex(r"50% of a_b & \input{x} $1$ #~^") == (
        r"50\% of a\_b \& \textbackslash{}input\{x\} \$1\$ \#\textasciitilde{}\textasciicircum{}"
    )


def test_an_artefact_is_told_as_text(tmp_path: Path):
    for layers in (ALL, SPARSE):
        make(tmp_path, layers)
    assert "| 8 layers" in paper_artifacts.artefact("table2", tmp_path)
    assert paper_artifacts.artefact("table2", tmp_path, model="tiny") == ""
    assert "8: 108.00, 32: 132.00" in paper_artifacts.artefact("figure3", tmp_path)
    with pytest.raises(ValueError, match="no artefact table9; valid are table1"):
        paper_artifacts.artefact("table9", tmp_path)


# ---- figures


def drawings(root: Path) -> dict[str, plots.Plot]:
    return {plot.name: plot for plot in paper_artifacts.all_plots(PAPER, find_runs(root))}


def test_figure_2_has_a_panel_a_benchmark_and_a_line_an_amount_of_data(tmp_path: Path):
    for fraction in (1.0, 0.1):
        for k in (32, 8, 2):
            make(tmp_path, sparse_uniform(32, k), fraction=fraction)
    make(tmp_path, TOP)  # not sparse and uniform
    panels = drawings(tmp_path)[f"figure2_{BUNNY}"].panels
    assert [panel.title for panel in panels] == ["OCRVQA", "TextVQA", "TDIUC", "GQA"]
    for panel in panels:
        assert [line.name for line in panel.lines] == ["100 % of the data", "10 % of the data", "paper, 100 %"]
        ours = panel.lines[0]
        assert [x for x, _, _ in ours.points] == [2, 8, 32]
        assert ours.level == pytest.approx(0.98 * ours.points[-1][1])


@pytest.mark.parametrize(("gpu_hours", "unit"), [(0.0, "seconds of training"), (50.0, "GPU-hours")])
def test_figure_3_is_in_gpu_hours_where_there_were_gpus(tmp_path: Path, gpu_hours: float, unit: str):
    for k in (32, 8):
        make(tmp_path, sparse_uniform(32, k), train={"seconds": 10.0 * k, "gpu_hours": gpu_hours * k})
    (panel,) = drawings(tmp_path)["figure3"].panels
    assert panel.y == unit
    ours, published = panel.lines
    assert published.points == ((8.0, pytest.approx(0.87 * ours.points[-1][1]), None),)


def test_lines_are_told_apart_without_colour():
    assert len({marker for _, marker, _ in plots.STYLES}) == len(plots.STYLES)
    assert len({dashes for _, _, dashes in plots.STYLES}) == len(plots.STYLES)


POINTS = ((1.0, 40.0, 1.5), (8.0, 60.0, None), (32.0, 61.0, None))
PLOT = plots.Plot(
    "p",
    "A plot",
    tuple(
        plots.Panel(title, "x", "y", (plots.Line("a", POINTS, level=58.0), plots.Line("b", POINTS, is_papers=True)))
        for title in ("one", "two")
    ),
)


@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_same_plot_is_the_same_bytes_in_any_process(form: str, magic: bytes):
    code = f"import sys; from test_report import PLOT, plots; sys.stdout.buffer.write(plots.draw(PLOT, '{form}'))"
    drawn = plots.draw(PLOT, form)
    assert drawn.startswith(magic)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[1])}
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment, timeout=240)
    assert again.stdout == drawn
    assert b"Date" not in drawn


# ---- the page


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root of several models with its report."""
    root = tmp_path_factory.mktemp("reported") / "out puts"
    tiny = tuple(f"tiny_{column}" for column in VISUAL)
    for layers, skill in ((ALL, 0.7), (SPARSE, 0.68), (TOP, 0.4)):
        make(root, layers, skill=skill)
        make(root, layers, model="tiny", columns=tiny, skill=skill)
    make(root, SPARSE, seed=1)
    run = RunConfig()
    run.runtime.output_root = str(root)
    run.wandb.mode = "disabled"
    report(run)
    return root


def test_every_table_and_figure_is_a_file(reported: Path):
    names = {path.name for path in (reported / "report").rglob("*") if path.is_file()}
    made = [f"{table}_{model}" for table in ("table1", "table2") for model in (BUNNY, "tiny")]
    assert {f"{name}.{form}" for name in made for form in ("md", "tex", "csv")} <= names
    drawn = (f"figure2_{BUNNY}", "figure2_tiny", "figure3")
    assert {f"{name}.{form}" for name in drawn for form in ("png", "pdf")} <= names
    assert "index.html" in names
    assert not [name for name in names if "partial" in name]


def test_the_page_stands_alone_and_its_links_lead_to_files(reported: Path):
    index = reported / "report" / "index.html"
    text = index.read_text(encoding="utf-8")
    for source in re.findall(r'\bsrc="([^"]*)"', text):
        assert source.startswith("data:image/")
    links = [html.unescape(link) for link in re.findall(r'\bhref="([^"]*)"', text)]
    files = [link for link in links if not link.startswith(("#", "data:"))]
    assert len(files) >= 2 * len(find_runs(reported))
    for link in files:
        assert (index.parent / unquote(link)).resolve().is_file()
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_predictions_never_become_markup(reported: Path):
    text = (reported / "report" / "index.html").read_text(encoding="utf-8")
    assert text.count("<script>") == 1
    assert "onerror=alert" not in re.sub(r"&lt;.*?&gt;", "", text)
    assert html.escape(HOSTILE) in text
    assert "49" not in re.findall(r"&lt;img src=x onerror=alert\(2\)&gt;(.{0,4})", text)


def test_predictions_are_few_seeded_and_the_random_ones_the_same_in_every_run(reported: Path):
    found = galleries(find_runs(reported))
    assert found == galleries(find_runs(reported))
    drawn: dict[str, set[tuple[str, ...]]] = {}
    for gallery in found:
        worst, lots = ([p for p in gallery.predictions if p.why == why] for why in ("worst", "random"))
        assert (len(worst), len(lots)) == (WORST, RANDOM)
        assert {p.id for p in worst}.isdisjoint(p.id for p in lots)
        assert all(p.picture.startswith("data:image/") for p in gallery.predictions)
        assert max(p.score for p in worst) == 0  # there are more wrong ones than are shown
        drawn.setdefault(gallery.benchmark, set()).add(tuple(p.id for p in lots))
    assert all(len(ids) == 1 for ids in drawn.values())


def test_layers_are_told_shortly():
    assert format_layers([0, 1, 2, 3, 28, 30, 31]) == "0 to 3, 28, 30, 31"
    assert format_layers(ALL) == "0 to 31"
    assert format_layers([]) == ""


def test_pictures_are_small(reported: Path):
    for gallery in galleries(find_runs(reported)):
        for shown in gallery.predictions:
            with Image.open(io.BytesIO(base64.b64decode(shown.picture.partition(",")[2]))) as image:
                assert max(image.size) <= 96


def test_a_report_made_again_is_the_same_and_forgets_what_is_gone(tmp_path: Path):
    make(tmp_path, ALL)
    gone = make(tmp_path, SPARSE, columns=("mmlu",))
    make(tmp_path, SPARSE)
    run = RunConfig()
    run.runtime.output_root, run.wandb.mode = str(tmp_path), "disabled"

    def everything() -> dict[str, bytes]:
        report(run)
        return {str(path): path.read_bytes() for path in sorted((tmp_path / "report").rglob("*")) if path.is_file()}

    before = everything()
    assert everything() == before
    assert gone.folder.is_dir()  # replaced: one run, one directory
    for folder in (tmp_path / "finetune" / BUNNY).glob("run-8_*"):
        shutil.rmtree(folder)
    after = everything()
    assert not any("tables" in name for name in after)
    assert any("tables" in name for name in before)


def test_the_command_reports_and_says_where(tmp_path: Path, vrx: Callable[..., subprocess.CompletedProcess]):
    told = vrx("job=report")
    assert told.returncode == 2
    assert told.stderr.startswith("vrx: runtime.output_root=outputs: holds no record to report")
    for layers in (ALL, SPARSE):
        make(tmp_path / "outputs", layers)
    write_atomic(tmp_path / "outputs" / "finetune" / "m" / "broken" / "record.json", "{")
    told = vrx("job=report")
    assert told.returncode == 0
    index = tmp_path / "outputs" / "report" / "index.html"
    assert told.stdout == f"report: {index}\n"
    assert index.is_file()
    assert "broken/record.json: not valid JSON" in told.stderr
    assert len(told.stderr.splitlines()) == 2


@pytest.mark.slow
def test_the_page_works_in_a_browser(reported: Path, tmp_path: Path):
    """Every table is there, a click sorts, nothing leaves the page, the console stays empty."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver_file = shutil.which("chromedriver")
    if not browser or not driver_file:
        pytest.skip("no Chromium with chromedriver here: apt-get install chromium chromium-driver")
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *(
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1400,1000",
            f"--user-data-dir={tmp_path / 'u'}",
        ),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    index = reported / "report" / "index.html"
    with webdriver.Chrome(options=options, service=Service(driver_file)) as driver:
        driver.get(index.as_uri())
        for name in (f"table1_{BUNNY}", f"table2_{BUNNY}", "table1_tiny", "table2_tiny", "all-runs", "figure3"):
            assert driver.find_element(By.ID, name).is_displayed()
        table = driver.find_element(By.CSS_SELECTOR, f"#table1_{BUNNY.replace('.', chr(92) + '.')} table")

        def labels() -> list[str]:
            return [cell.text for cell in table.find_elements(By.CSS_SELECTOR, "tbody td:first-child")]

        def values() -> list[str]:
            cells = table.find_elements(By.CSS_SELECTOR, "tbody td:nth-child(7)")
            return [cell.get_attribute("data-value") for cell in cells]

        original, button = labels(), table.find_elements(By.CSS_SELECTOR, "thead button")[6]
        assert original[:2] == ["All layers", "Sparse & Uniform (2 seeds)"]
        for turn in ("descending", "ascending"):
            button.click()
            assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == turn
            numbers = [float(value) for value in values() if value]
            assert numbers == sorted(numbers, reverse=turn == "descending")
            assert len(numbers) == 3
            assert values()[3:] == [""] * (len(original) - 3)  # the missing ones stay at the end
        button.click()
        assert labels() == original
        for summary in driver.find_elements(By.TAG_NAME, "summary")[:3]:
            summary.click()
        pictures = driver.find_elements(By.TAG_NAME, "img")
        assert len(pictures) > 20
        broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
        assert driver.execute_script(broken) == 0
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        driver.save_screenshot(str(tmp_path / "page.png"))
        assert driver.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        asked = {one["request"]["url"] for one in sent if one["documentURL"] == index.as_uri()}
        assert {url for url in asked if not url.startswith("data:")} == {index.as_uri()}
