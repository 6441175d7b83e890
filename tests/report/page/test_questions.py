"""Two runs question by question: every question is counted, some are shown with what each run answered."""

from __future__ import annotations

from pathlib import Path

from support.report_runs import ALL, NUM_QUESTIONS, SPARSE, write_run

from vrx.report.page.pictures import Pictures
from vrx.report.page.questions import DIGITS, MAX_SHOWN, compare_questions
from vrx.report.question_scores import load_answers, question_scores


def test_scores_are_those_of_the_records_and_answers_those_of_the_files(tmp_path: Path):
    runs = [write_run(tmp_path, layers, columns=("gqa", "mmbench")) for layers in (ALL, SPARSE)]
    pictures = Pictures()
    compared = compare_questions(runs, pictures, start=[runs[1], runs[0]])
    assert [run["number"] for run in compared["runs"]] == [0, 1] and compared["start"] == [0, 1]
    gqa, mmbench = compared["benchmarks"]
    scores = question_scores(runs)
    for entry in (gqa, mmbench):
        for number, run in enumerate(runs):
            expected = scores(run, entry["name"])
            assert expected is not None
            assert [DIGITS.index(each) / 35 for each in entry["scores"][number]] == list(expected.values())
    assert len(gqa["scores"][0]) == NUM_QUESTIONS and len(mmbench["scores"][0]) == NUM_QUESTIONS / 2
    assert len(gqa["shown"]) == min(MAX_SHOWN, NUM_QUESTIONS)
    answers = {answer.id: answer.text for answer in (load_answers(runs[1], "gqa") or (None, []))[1]}
    for shown in gqa["shown"]:
        assert shown["texts"][shown["answers"][1]] == answers[shown["id"]]
        assert shown["reference"] == "A" and 0 <= shown["picture"] < len(pictures.uris)
    assert len(pictures.uris) == NUM_QUESTIONS  # both benchmarks have the same pictures, each is stored once
    assert " | " in mmbench["shown"][0]["texts"][0]  # both rotations of a question


def test_questions_that_the_runs_disagree_about_are_shown_first(tmp_path: Path, monkeypatch):
    runs = [write_run(tmp_path, layers, columns=("gqa",)) for layers in (ALL, SPARSE)]
    monkeypatch.setattr("vrx.report.page.questions.MAX_SHOWN", 8)
    (gqa,) = compare_questions(runs, Pictures())["benchmarks"]
    differs = [a != b for a, b in zip(*gqa["scores"].values(), strict=True)]
    shown = [differs[each["index"]] for each in gqa["shown"]]
    assert len(shown) == 8 and sum(differs) >= 6
    assert sum(shown) >= 6


def test_a_run_whose_answers_are_gone_is_left_out_of_the_choice(tmp_path: Path):
    runs = [write_run(tmp_path, layers, columns=("gqa",)) for layers in (ALL, SPARSE)]
    (runs[0].folder / "answers" / "gqa.jsonl").unlink()
    compared = compare_questions(runs, Pictures())
    assert [run["number"] for run in compared["runs"]] == [1] and compared["start"] == [1, 1]
