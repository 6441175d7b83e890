"""`vrx ask` and `vrx compare`: answers of finished runs to one question about one picture."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.official import GOLDEN

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.schema import RunConfig
from vrx.evaluation.asking import VisibleText, encode_conversation, first_tokens, option_probabilities
from vrx.evaluation.generation import Generator
from vrx.jobs.ask import driver as ask_driver
from vrx.jobs.ask import worker as ask_worker
from vrx.jobs.compare import driver as compare_driver
from vrx.jobs.compare import worker as compare_worker
from vrx.jobs.compared_models import answer_row

Make = Callable[..., RunConfig]
PICTURE = GOLDEN / "images" / "landscape.png"
NO_PICTURE = r"image=.*test_ask\.py: cannot identify .*; valid is a picture"
COPY = next((Path(__file__).parents[2] / "docs" / "results" / "tiny" / "finetune" / "tiny").iterdir())


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for driver, stage in ((ask_driver, ask_worker.ask), (compare_driver, compare_worker.compare)):
        monkeypatch.setattr(
            driver, "launch", lambda _, folder, __, stage=stage: stage(load_frozen(folder / ".command.yaml"), folder)
        )


def test_a_question_is_answered_and_no_file_is_left(make_run: Make, tuned: Path, capsys: pytest.CaptureFixture):
    run = make_run("job=ask", f"job.run={tuned}", f"image={PICTURE}", "question='What is it?'", "ask.max_new_tokens=4")
    ask_driver.ask(run)
    generator = Generator.load(run, tuned)
    encoded = encode_conversation(generator, ["What is it?"], PICTURE)
    assert capsys.readouterr().out.strip() == generator.answer([encoded], 4)[0]
    assert not list((run.runtime.output_path / "ask").iterdir())


def test_a_conversation_is_read_line_by_line_until_an_empty_one(
    make_run: Make, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is it?\nSure?\n\nnever asked\n"))
    ask_driver.ask(make_run("job=ask", f"image={PICTURE}", "ask.max_new_tokens=3"))
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert sys.stdin.readline() == "never asked\n"


def test_a_later_question_comes_after_the_earlier_ones(make_run: Make, tuned: Path):
    generator = Generator.load(make_run(), tuned)
    first = encode_conversation(generator, ["What is it?"], PICTURE)
    later = encode_conversation(generator, ["What is it?", "red", "Sure?"], PICTURE)
    assert later.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids
    assert generator.tokenizer.decode(later.prompt_ids[len(first.prompt_ids) :]) == (
        " red<|end_of_text|>USER: Sure? ASSISTANT:"
    )


def test_probabilities_are_those_of_whole_answers_and_of_first_tokens(make_run: Make):
    run = make_run()
    generator = Generator.load(run, Path("none"))
    encoded = encode_conversation(generator, ["What colour?"], PICTURE)
    tokens = first_tokens(generator, encoded, 10**6)
    assert sum(share for _, share in tokens) == pytest.approx(1, abs=1e-4)
    assert [share for _, share in tokens] == sorted((share for _, share in tokens), reverse=True)
    by_token = dict(tokens)
    answer = generator.answer([encoded], 8)[0]
    options = [answer, "zebra zebra"]
    likely, unlikely = option_probabilities(generator, encoded, options)
    assert unlikely < likely <= tokens[0][1] <= max(by_token.values())


def test_runs_are_compared_in_rows(make_run: Make, tuned: Path, capsys: pytest.CaptureFixture):
    options = ("compare.options=[red,blue]", "question='Which colour, red or blue?'", "compare.max_new_tokens=2")
    compare_driver.compare(make_run("job=compare", f"compare.runs=[{tuned}]", f"image={PICTURE}", *options))
    head, untouched, of_run = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "answer", "probability", "in", "percent"]
    assert untouched.startswith("tiny, untouched ") and "red " in untouched and "blue " in untouched
    assert "tuned 0, 4, 8, 12, 18, 22, 26, 30" in of_run


def test_text_of_a_model_cannot_act_on_the_terminal():
    answer = {"text": "\x1b[2J", "probabilities": [("\n", 0.5), (" red", 0.25)]}
    assert compare_driver.table([answer_row("run", answer)]).splitlines()[1].split("  ")[-3:] == [
        r"'\x1b[2J'",
        r"'\n' 50.0",
        "red 25.0",
    ]


def test_a_streamed_answer_cannot_act_on_the_terminal(make_run: Make, capsys: pytest.CaptureFixture):
    streamer = VisibleText(Generator.load(make_run(), Path("none")).tokenizer)
    for text in ("red\x1b]0;", "\n\u202eblue\r"):
        streamer.on_finalized_text(text)
    assert capsys.readouterr().out == "red\\x1b]0;\n\\u202eblue\\r"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("job=ask", "question=x"), r"image=null: a question needs its picture; run: vrx ask image="),
        (("job=ask", "image=none.png", "question=x"), r"image=none\.png: no such file"),
        (("job=compare", "image=none"), r"question=null: .*vrx compare "),
        (("job=compare", "image=none", "question=x", "compare.untouched=false"), r"compare\.runs=\[\]: names no run"),
        (("job=compare", "image=none", "question=x", "compare.runs=[gone]"), r"compare\.runs=gone: no such folder"),
        (("job=ask", "image=none", "question=x", "job.run=gone"), r"job\.run=gone: no such folder"),
        (("job=ask", "image=none", "question='  '"), r"question='  ': is blank; valid is a text"),
        (
            ("job=compare", "image=none", "question=x", "compare.options=[a,'a ',b]"),
            r"options=\[a,a,b\]: a is there twice",
        ),
        (
            ("job=compare", "image=none", "question=x", "compare.options=[a,' ']"),
            r"options=\[a,\]: a blank text",
        ),
        (("job=compare", "image=none", "question=x", "compare.runs=[a,./a]"), r"compare\.runs=.*a is there twice"),
        (
            ("job=ask", f"image={__file__}", "question=x"),
            NO_PICTURE,
        ),
        (
            ("job=compare", f"image={__file__}", "question=x"),
            NO_PICTURE,
        ),
        (("job=ask", "image=none", f"job.run={COPY}"), r"job\.run=.*: is a copy of results .*make the run again"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(make_run: Make, overrides: tuple[str, ...], message: str):
    run = make_run(*overrides)
    with pytest.raises(UserError, match=message) as error:
        (ask_driver.ask if run.job.name == "ask" else compare_driver.compare)(run)
    assert "\n" not in str(error.value)
