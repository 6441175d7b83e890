"""Answers of other programs: every form gives the same texts by id, and what does not fit is refused by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from vrx.config.errors import UserError
from vrx.evaluation.answers_elsewhere import WRITERS, as_lmms_eval, as_vlmevalkit, read_answers
from vrx.evaluation.families import Sample
from vrx.metrics.answer import Answer

IDS = ["q1", "q2", "0"]
TEXTS = {"q1": "a cat", "q2": "B", "0": "7\u2028 lines"}


def lines(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


FORMS = {
    "llava.jsonl": lines(*({"question_id": key, "prompt": "?", "text": text} for key, text in TEXTS.items())),
    "samples_task.jsonl": lines(
        *(
            {"doc_id": number, "doc": {"question_id": key}, "target": "x", "resps": [["raw"]], "filtered_resps": [text]}
            for number, (key, text) in enumerate(TEXTS.items())
        )
    ),
    "logs.json": json.dumps({"logs": [{"doc_id": key, "resps": [[text]]} for key, text in TEXTS.items()]}),
    "vlmevalkit.json": json.dumps(
        [{"index": key, "answer": "gold", "prediction": text} for key, text in TEXTS.items()]
    ),
    "ours.jsonl": lines({"key": "k", "version": 1}, *({"id": key, "text": text} for key, text in TEXTS.items())),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_answers(tmp_path: Path, name: str):
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8")
    assert read_answers(tmp_path / name, IDS, key="k") == TEXTS


def test_a_table_is_read_with_quotes_line_breaks_and_numbers(tmp_path: Path):
    path = tmp_path / "predictions.tsv"
    path.write_text('index\tquestion\tprediction\n1\t"two\nlines"\t"say ""no"""\n2\t?\t3.5\n', encoding="utf-8-sig")
    assert read_answers(path, ["1", "2"], key="k") == {"1": 'say "no"', "2": "3.5"}


GOOD = [{"id": key, "text": text} for key, text in TEXTS.items()]
BAD = {
    "unknown ids": (lines(*GOOD, {"id": "q9", "text": ""}), "1 ids that the benchmark does not have: q9; its ids are"),
    "a missing answer": (lines(*GOOD[:2]), "no answer to 1 of 3 questions: 0"),
    "an answer twice": (lines(*GOOD, GOOD[0]), "row 4 answers question q1 a second time"),
    "no text": (lines({"id": "q1"}), "row 1 is no answer"),
    "no id": (lines({"text": "q1"}), "row 1 is no answer"),
    "a list": ("[1]\n", "row 1 is no answer"),
    "no JSON": ("question_id,text\n", "not valid JSON"),
    "nested": ("[" * 100_000, "not valid JSON"),
    "cut off": (lines(*GOOD)[:-4], "not valid JSON: line 3: "),
    "another encoding": (lines(*GOOD).encode("utf-16"), "is no text in UTF-8: invalid start byte at byte 0"),
    "no number": ('{"id": "q1", "text": NaN}', "row 1 is no answer"),
    "more than a number": ('{"id": "q1", "text": 1e999}', "row 1 is no answer"),
    "too many digits": ('{"id": "q1", "text": ' + "9" * 5000 + "}", "not valid JSON: line 1: "),
    "signs of a terminal": (lines(*GOOD, {"id": "\x1b[2J\n\u202e", "text": ""}), r"have: \x1b[2J\n\u202e; its ids"),
    "a long id": (lines(*GOOD, {"id": "q" * 10**6, "text": ""}), f"have: {'q' * 40}; its ids"),
    "nothing": ("", "no answer to 3 of 3 questions"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_fit_is_refused_with_key_and_file(tmp_path: Path, kind: str):
    content, message = BAD[kind]
    path = tmp_path / "answers.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as refused:
        read_answers(path, IDS, key="score_answers.file")
    assert str(refused.value).startswith(f"score_answers.file={path}: ") and message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_and_a_file_that_is_not_there_are_refused(tmp_path: Path):
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none.csv", "No such file or directory")):
        with pytest.raises(UserError) as refused:
            read_answers(path, IDS, key="k")
        assert str(refused.value) == f"k={path}: cannot be read: {reason}"


def test_a_long_answer_is_read_from_every_form(tmp_path: Path):
    text = "long " * 40_000
    forms = {"t.csv": f"index,prediction\nq1,{text}\n", "t.jsonl": lines({"id": "q1", "text": text})}
    for name, content in forms.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_answers(tmp_path / name, ["q1"], key="k") == {"q1": text}


SAMPLES = [
    Sample("What?\tNow", None, Answer("q1", "", ("cat",), question_type="animal")),
    Sample("Which?", None, Answer("q2", "", ("B",), choices=("x", "=1+1"))),
    Sample("Where?", None, Answer("0", "", (), box=(0, 0, 5, 5))),
]


@pytest.mark.parametrize("program", WRITERS)
def test_what_is_written_for_others_reads_back(tmp_path: Path, program: str):
    ending, write = WRITERS[program]
    path = tmp_path / f"answers.{ending}"
    path.write_text(write(SAMPLES, TEXTS, model="m", benchmark="gqa"), encoding="utf-8")
    assert read_answers(path, IDS, key="k") == TEXTS


def test_a_table_for_others_has_no_formula_and_numbers_as_they_are():
    texts = {"q1": "=HYPERLINK(1)", "q2": " @SUM", "0": "-12.5"}
    rows = list(csv.DictReader(as_vlmevalkit(SAMPLES, texts, model="m", benchmark="b").splitlines(), delimiter="\t"))
    assert [row["prediction"] for row in rows] == ["'=HYPERLINK(1)", "' @SUM", "-12.5"]
    assert (rows[1]["A"], rows[1]["B"], rows[1]["answer"]) == ("x", "'=1+1", "B") and rows[0]["category"] == "animal"


def test_a_log_for_lmms_eval_has_what_its_model_from_log_looks_up():
    log = json.loads(as_lmms_eval(SAMPLES, TEXTS, model="m", benchmark="gqa"))
    assert log["args"]["limit"] is None and log["model_configs"]["task"] == "gqa"
    assert {entry["doc_id"]: entry["resps"][0][0] for entry in log["logs"]} == dict(enumerate(TEXTS.values()))


def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path):
    table = as_vlmevalkit(SAMPLES, TEXTS, model="m", benchmark="gqa")
    for name, content in {**FORMS, "table.tsv": table, "table.csv": table.replace("\t", ",")}.items():
        path, whole = tmp_path / name, content.encode()
        for cut in range(0, len(whole), 3):
            for damaged in (whole[:cut], whole[cut:], whole[:cut] + b'"\x00\n' + whole[cut + 3 :]):
                path.write_bytes(damaged)
                try:
                    assert list(read_answers(path, IDS, key="k")) != []
                except UserError as error:
                    assert str(error).startswith(f"k={path}: ") and "\n" not in str(error)
