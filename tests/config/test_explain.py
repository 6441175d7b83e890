"""The exact line for each kind of mistake in a command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vrx.config import paths
from vrx.main import main

MODELS = ", ".join(sorted(path.stem for path in (paths.CONF / "model").glob("*.yaml")))
LINES = {
    "unknown key": (
        ["eval.limt=3"],
        "eval.limt=3: no such key; did you mean eval.limit? valid: eval.batch_size, eval.limit, eval.shuffle_images",
    ),
    "unknown added key": (
        ["+eval.x=3"],
        "+eval.x=3: no such key; did you mean eval.limit? valid: eval.batch_size, eval.limit, eval.shuffle_images",
    ),
    "unknown option": (
        ["model=llava-1.5"],
        f"model=llava-1.5: no such option; did you mean llava-1.5-7b? valid: {MODELS}",
    ),
    "number as an option": (["model=7"], f"model=7: no such option; valid: {MODELS}"),
    "wrong type": (["seed=abc"], "seed=abc: must be a whole number"),
    "option of another job": (
        ["prune.num_layers=3"],
        "prune.num_layers=3: an option of job prune; run: vrx prune prune.num_layers=3",
    ),
    "option of the report": (
        ["world.num_images=16", "report.copy_to=x"],
        "report.copy_to=x: an option of job report; run: vrx report report.copy_to=x",
    ),
    "option of answers from elsewhere": (
        ["world.num_images=16", "score_answers.name=x"],
        "score_answers.name=x: an option of job score_answers; run: vrx score_answers score_answers.name=x",
    ),
    "renamed key": (["check.share_of_peak=0.5"], "check.share_of_peak: renamed to check.expected_mfu"),
    "missing world": (
        ["model=llava-1.5-7b", "world.seed=1"],
        "world.seed=1: world is null; valid where the model brings its own world, as model=tiny does",
    ),
    "several values without -m": (
        ["seed=0,1"],
        "seed=0,1: several values are a sweep: vrx -m seed=0,1; a list is seed=[0,1]",
    ),
    "bad syntax": (
        ["seed=[1"],
        "seed=[1: its value cannot be read; if it is a text, quote it twice: \"seed='[1'\"",
    ),
    "path that Hydra does not read": (
        ["data_root=/a b/#1 (x)=y/데이터"],
        "data_root=/a b/#1 (x)=y/데이터: its value cannot be read; if it is a text, quote it twice: "
        "\"data_root='/a b/#1 (x)=y/데이터'\"",
    ),
    "path with a quote": (
        ["data_root=/a's (x)"],
        "data_root=/a's (x): its value cannot be read; if it is a text, quote it twice: "
        "'data_root='\"'\"'/a\\'\"'\"'s (x)'\"'\"''",
    ),
    "null for a section": (["train.max_steps=4", "train=null"], "train=null: field 'train' is not Optional"),
    "null for a group": (["world.num_images=16", "model=null"], f"model=null: no such option; valid: {MODELS}"),
    "a section taken away": (["~train"], "~train: no key can be taken away; give it a value, null where that is valid"),
    "a reference to nothing": (
        ["train.loss_average=${nowhere}"],
        "train.loss_average=${nowhere}: ${nowhere} refers to a key that there is not; a text with $ is '\\${…}'",
    ),
    "no such template": (
        ["model.template=''"],
        "model.template=: valid are vicuna_v1, bunny_llama3, bunny_phi3, smollm2, tiny",
    ),
    "a number of any length": (["train.lr=-1" + "0" * 400], "train.lr=-10000000…: a number of 401 digits"),
    "wrong type, forced": (["++seed=x"], "++seed=x: must be a whole number"),
}


def refused_line(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["vrx", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("kind", LINES)
def test_each_kind_of_mistake_has_its_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    arguments, line = LINES[kind]
    assert refused_line(arguments, monkeypatch, capsys) == f"vrx: {line}\n"


def test_the_key_that_is_blamed_is_the_one_that_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    others = ["world.num_images=16", "train.max_steps=4", "benchmark=[tiny_gqa]"]
    for override in ("+a=1", "+x.y=3", "eval={limit: 3, foo: 1}", "+train.a=1"):
        assert refused_line([*others, override], monkeypatch, capsys).startswith(f"vrx: {override}: no such key; ")


def test_a_number_as_an_option_in_a_sweep_file_is_refused_with_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more" / "sweep").mkdir(parents=True)
    text = "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {layer_count: '2,3'}}}\n"
    (tmp_path / "more" / "sweep" / "mine.yaml").write_text(text)
    line = refused_line(["--config-dir", "more", "sweep=mine"], monkeypatch, capsys)
    assert line == (
        "vrx: hydra.sweeper.params: a number is not the name of an option; in a sweep file write layer_count.k: 2,3 or "
        "layer_count: 2_layers,4_layers, and data_fraction.fraction: 0.1,0.25 or data_fraction: 10pct,25pct\n"
    )


def test_a_missing_folder_of_configurations_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(paths, "CONF", tmp_path / "conf")
    assert refused_line([], monkeypatch, capsys) == (
        f"vrx: {tmp_path}/conf: no configurations there; install vrx again, or run it in a full checkout\n"
    )


@pytest.mark.parametrize(("name", "key"), [("lr", "train.lr"), ("layers", "selector.layers"), ("r", "lora.r")])
def test_a_field_without_its_section_is_completed(
    name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    line = refused_line([f"{name}=1"], monkeypatch, capsys)
    assert line.startswith(f"vrx: {name}=1: no such key; did you mean {key}? valid: ")
