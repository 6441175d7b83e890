"""`vrx demo`: the page on which runs answer side by side, as `vrx compare` does in the terminal."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.official import GOLDEN
from support.processes import started
from support.whole_runs import ENVIRONMENT, command

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.job_options import DemoConfig
from vrx.config.schema import RunConfig
from vrx.jobs.compare import driver as compare_driver
from vrx.jobs.compare import worker as compare_worker
from vrx.jobs.compared_models import model_folders, write_models
from vrx.jobs.demo import driver
from vrx.jobs.demo.answering import Answering

Make = Callable[..., RunConfig]
PICTURE = GOLDEN / "images" / "landscape.png"
COPY = next((Path(__file__).parents[2] / "docs" / "results" / "tiny" / "finetune" / "tiny").iterdir())
QUESTION = "Which colour, <b>red</b> or $blue$?"
HOSTILE = "<img src=x onerror=alert(1)>"
TOKENS = 2


@pytest.fixture
def compared(
    make_run: Make, tuned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., str]:
    """What `vrx compare` prints about the tuned and the untouched model."""
    monkeypatch.setattr(
        compare_driver,
        "launch",
        lambda _, folder, __: compare_worker.compare(load_frozen(folder / ".command.yaml"), folder),
    )

    def compare(*options: str) -> str:
        asked = (f"image={PICTURE}", f"question='{QUESTION}'", f"compare.max_new_tokens={TOKENS}", *options)
        compare_driver.compare(make_run("job=compare", f"compare.runs=[{tuned}]", *asked))
        return capsys.readouterr().out

    return compare


@pytest.fixture
def answering(make_run: Make, tuned: Path, tmp_path: Path) -> Answering:
    """The untouched and the tuned model, and one that cannot be loaded; one stays in memory."""
    run = make_run("job=demo", f"demo.runs=[{tuned}]", "demo.keep_models=1", f"demo.max_new_tokens={TOKENS}")
    models = driver.offered_models(run)
    broken = dataclasses.replace(run, model=dataclasses.replace(run.model, num_image_tokens=9))
    write_models(tmp_path, [*(model.run for model in models), broken], run.runtime)
    assert run.demo is not None
    return Answering([*(model.name for model in models), "broken"], model_folders(tmp_path), run.demo)


def test_rows_are_those_of_compare_and_few_models_stay_in_memory(answering: Answering, compared: Callable[..., str]):
    asked = list(answering.answer(str(PICTURE), f" {QUESTION}\n", [1, 0], f"red\n\n {HOSTILE} \n"))
    rows, message = asked[-1]
    assert compared(f'compare.options=[red,"{HOSTILE}"]') == compare_driver.table(rows) + "\n"
    assert len(asked) == 2 and message == ""  # a row at a time
    assert answering.models.numbers == [1] and answering.models.get(1) is answering.models.get(1)
    (rows, message), *_ = answering.answer(str(PICTURE), QUESTION, [2], "")
    assert rows == [] and re.fullmatch(r"broken: model\.num_image_tokens=9: .*", message)
    assert answering.models.numbers == []  # before another was loaded


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((None, "x", []), r"Tick at least one run\."),
        ((None, " \n", [0]), r"Type a question\."),
        (
            (__file__, "x", [0]),
            r"image=test_demo\.py: cannot identify image file 'test_demo\.py'; valid is a picture .*",
        ),
    ],
)
def test_what_cannot_be_asked_gets_one_line(asked: tuple[Any, ...], message: str):
    (answer,) = Answering(["run"], [], DemoConfig()).answer(*asked, "")
    assert answer[0] == [] and re.fullmatch(message, answer[1])


def test_finished_runs_below_the_output_root_are_offered(
    make_run: Make, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    runs = tmp_path / "finetune" / "tiny"
    (runs / "broken").mkdir(parents=True)
    (runs / "broken" / "record.json").write_text("{")
    (runs / "copy").symlink_to(COPY)
    (runs / "tuned").symlink_to(tuned)
    offered = driver.offered_models(make_run("job=demo", f"runtime.output_root={tmp_path}"))
    assert [model.run.job.run for model in offered] == [None, str(runs / "tuned")]
    assert offered[0].name == "tiny, untouched" and offered[1].name.endswith(": tuned 0, 4, 8, 12, 18, 22, 26, 30")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vrx: not on the page: {runs}/broken/record.json: not valid JSON")


def test_runs_that_cannot_be_asked_are_refused_in_one_line(make_run: Make, tmp_path: Path):
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.yaml").touch()
    run = make_run("job=demo", f"runtime.output_root={tmp_path}")
    refused = {
        (): r"demo\.runs=\[\]: no finished run with weights below runtime\.output_root=.*",
        (
            str(unfinished),
        ): r"demo\.runs=.*: not finished, it has no result yet; run the command again that began it: .*",
        (str(COPY),): r"demo\.runs=.*: is a copy of results without weights.*",
    }
    for runs, message in refused.items():
        with pytest.raises(UserError) as error:
            driver.offered_models(dataclasses.replace(run, demo=DemoConfig(runs=list(runs))))
        assert re.fullmatch(message, str(error.value))


def test_a_port_that_is_taken_is_refused_or_passed_over():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^demo\.port={port}: is taken; valid is a port .*"):
            driver.free_port(port)
    assert driver.free_port(port) == port
    first = driver.free_port(None)
    with socket.create_server(("127.0.0.1", first)):
        assert driver.free_port(None) > first >= 7860


def test_without_gradio_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"^job=demo: .*; run: pip install 'vrx\[demo\]'$"):
        driver.demo(RunConfig(demo=DemoConfig()))


@pytest.mark.slow
def test_the_page_answers_as_compare_until_ctrl_c(
    make_run: Make, tuned: Path, tmp_path: Path, compared: Callable[..., str]
):
    pytest.importorskip("gradio", reason="pip install 'vrx[demo]'")
    from gradio_client import Client, handle_file

    root = make_run().runtime.output_path
    options = (f"runtime.output_root={root}", f"demo.runs=[{tuned}]", f"demo.max_new_tokens={TOKENS}")
    # a shell lets its background jobs ignore Ctrl-C, and so would the page where the tests are such a job
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with started(
        command("demo", *options), cwd=tmp_path, env=ENVIRONMENT, stderr=-1, stdout=-1, start_new_session=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        address = re.fullmatch(r"vrx: 2 models at (http://127\.0\.0\.1:\d+); Ctrl-C closes the page\n", said)
        assert address, said + process.stderr.read()
        page = Client(address[1], verbose=False)
        asked = (QUESTION, [0, 1], f"red\n{HOSTILE}")
        table, message = page.predict(handle_file(PICTURE), *asked, api_name="/answer")
        refused = page.predict(handle_file(__file__), *asked, api_name="/answer")
        os.killpg(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert message == ""
    assert compared(f'compare.options=[red,"{HOSTILE}"]') == compare_driver.table(table["data"]) + "\n"
    assert refused[0]["data"] == [] and refused[1].startswith("image=test_demo.py: cannot identify image file")
    kinds = {part["type"]: part["props"] for part in page.config["components"]}
    assert kinds["dataframe"]["datatype"] == "str" and not kinds.keys() & {"html", "markdown", "chatbot"}
    assert page.config["analytics_enabled"] is False
    assert (process.returncode, out, errors) == (0, "", "vrx: the page is closed\n")
    assert not list(tmp_path.iterdir()) and not list((root / "demo").iterdir())
