"""The command itself: a refusal is one line and exit status 2, and nothing but work on weights imports torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vrx.main import main

Refusal = Callable[..., str]
COMMAND = Path(sys.executable).with_name("vrx")


def run(*arguments: str, cwd: Path, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the installed command, by an interpreter with options of its own where `python` names some."""
    command = [*(sys.executable, *python), str(COMMAND)] if python else [str(COMMAND)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    environment.pop("HYDRA_FULL_ERROR", None)
    return subprocess.run(
        [*command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


REFUSED = {  # overrides, the last of them bad: what the line says
    ("trian.max_steps=3",): ("trian.max_steps=3: no such key", "did you mean train.max_steps?", "valid: job, model,"),
    ("train.lrr=1",): ("train.lrr=1: no such key", "did you mean train.lr?", "valid: train.epochs, train.max_steps"),
    ("+train.lrr=1",): ("+train.lrr=1: no such key", "did you mean train.lr?", "train.projector_lr"),
    ("model=llava",): ("model=llava: no such option", "bunny-llama3-8b, bunny-phi3-mini-4b, gemma3-4b"),
    ("layer_count=seven",): ("layer_count=seven: no such option", "10_layers, 16_layers, 1_layer, 25pct"),
    ("layer_count=33",): ("layer_count=33: valid are 1 to 32",),
    ("data_fraction=1.5",): ("data_fraction.fraction=1.5: must be between 0 and 1",),
    ("prune.num_layers=3",): ("prune.num_layers=3: an option of job prune; run: vrx prune prune.num_layers=3",),
    ("report", "check.decode=true"): ("check.decode=true: an option of job check; run: vrx check check.decode=true",),
    ("prun", "seed=1"): ("prun: no such job; did you mean prune? valid: ask, bench, check, compare, demo, evaluate",),
    ("table2",): ("table2: not a job but a sweep; run: vrx sweep=table2",),
    ("score.untouched=true",): ("score.untouched: renamed to score.base_model",),
    ("hydra/sweeper=optuna",): ("hydra/sweeper=optuna: no such option; see vrx --hydra-help",),
    ("benchmark=[gqa,foo]",): ("benchmark=foo: no such option", "gqa, mmbench, mmlu"),
    ("train.lr=abc",): ("train.lr=abc: must be a number",),
    ("train.global_batch_size=1.5",): ("train.global_batch_size=1.5: must be a whole number",),
    ("seed=[1",): ("seed=[1: its value cannot be read",),
    ("layer_count=40_layers",): ("layer_count=40: valid are 1 to 32",),
    ("selector.layers=[0,32]",): ("selector.layers=[0, 32]: [32] not among the layers 0 to 31",),
    ("train.global_batch_size=33",): ("train.global_batch_size=33: valid is a multiple of", "32 x 1 = 32"),
    ("train.dtype=float16",): ("train.dtype=float16: valid are float32, bfloat16",),
    ("job.name=os.system",): ("job=os.system: not a short name",),
    ("benchmark.tiny_gqa.metric=os.system",): ("benchmark.tiny_gqa.metric=os.system: not a short name",),
    ("model=llava-1.5-7b", "world.seed=1"): ("world.seed=1: world is null", "model=tiny"),
    ("model=llava-1.5-7b", "benchmark=tdiuc"): ("benchmark.tdiuc.path=null: name its questions",),
    ("job=evaluate", "job.run=nowhere"): ("job.run=", "nowhere: no such folder"),
}
SMALL = ("world.num_images=1", "world.num_questions=1")  # for what is refused only after the world is made


@pytest.mark.parametrize("overrides", REFUSED, ids=" ".join)
def test_a_bad_override_is_refused_in_one_line(tmp_path: Path, overrides: tuple[str, ...]):
    told = run(*(SMALL if overrides[0] == "job=evaluate" else ()), *overrides, cwd=tmp_path)
    assert told.stdout == ""
    assert told.stderr.startswith("vrx: " + REFUSED[overrides][0])
    assert told.stderr.count("\n") == 1
    assert told.stderr.endswith("\n")
    for part in REFUSED[overrides]:
        assert part in told.stderr
    assert told.returncode == 2


def test_a_refused_command_leaves_nothing_behind(tmp_path: Path):
    run("train.dtype=float16", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_whole_traceback_is_there_for_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    told = subprocess.run(
        [str(COMMAND), "train.dtype=float16"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" in told.stderr
    assert told.returncode != 0


HEAVY = ("torch", "transformers", "deepspeed", "peft", "datasets", "wandb", "matplotlib")


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job"), ("train.dtype=float16",)], ids=" ".join)
def test_what_does_no_work_imports_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]):
    told = run(*arguments, cwd=tmp_path, python=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines() if line.startswith("import time:")}
    assert "vrx.config.schema" in imported
    assert not imported & set(HEAVY)


def test_help_shows_commands_and_every_group_with_its_options(tmp_path: Path):
    told = run("--help", cwd=tmp_path)
    assert told.stdout.startswith("vrx: tune a few decoder layers")
    for words in (
        "vrx -m seed=0,1,2",
        "model: aya-vision-8b, bunny",
        "selector: all",
        "recipe: fast, paper",
        "--cfg job",
    ):
        assert words in told.stdout
    assert (told.returncode, told.stderr) == (0, "")


def test_help_lists_every_job_with_its_purpose(tmp_path: Path):
    shown = run("--help", cwd=tmp_path).stdout
    for job in ("bench", "check", "evaluate", "finetune", "prune", "report", "revert", "score", "score-answers"):
        assert re.search(rf"^  {job} +[A-Z].+\.$", shown, re.MULTILINE)


def test_the_help_of_a_job_shows_its_purpose_and_its_options_with_defaults(tmp_path: Path):
    shown = run("prune", "--help", cwd=tmp_path)
    assert shown.stdout.startswith("vrx prune: Removes the least important layers")
    assert "  num_layers: 0 # how many layers to remove\n" in shown.stdout
    assert "Command: vrx prune prune.num_layers=3\n" in shown.stdout
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_first_word_is_the_job_and_a_number_an_option(tmp_path: Path):
    shown = run("prune", "--cfg", "job", "prune.num_layers=3", "layer_count=7", "data_fraction=0.1", cwd=tmp_path)
    assert "job:\n  name: prune\n" in shown.stdout and "  num_layers: 3\n" in shown.stdout
    assert "layer_count:\n  k: 7\n" in shown.stdout and "data_fraction:\n  fraction: 0.1\n" in shown.stdout


def test_the_command_leaves_hydras_environment_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["vrx", "--cfg", "job"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "HYDRA_FULL_ERROR" not in os.environ and sys.argv == ["vrx", "--cfg", "job"]


def test_cfg_job_shows_what_would_run(tmp_path: Path):
    told = run("--cfg", "job", "seed=7", cwd=tmp_path)
    assert "seed: 7\n" in told.stdout
    assert "name: finetune\n" in told.stdout
    assert (told.returncode, told.stderr) == (0, "")


def test_a_reader_that_ends_early_is_no_error():
    listing = subprocess.Popen([COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listing.stdout is not None and listing.stderr is not None
    listing.stdout.close()
    with listing.stderr:
        assert listing.stderr.read() == b""
    assert listing.wait() == 1
