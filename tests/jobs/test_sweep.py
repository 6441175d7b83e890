"""Sweeps by the real command: what they list, what they share, and what a sweeper gets."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from support.sweeps import sweep_runs
from support.whole_runs import PLAIN, STEPS

from vrx.config.compose import composing
from vrx.config.paths import CONF
from vrx.jobs.sweep.composition import Composer
from vrx.jobs.sweep.plan import names
from vrx.runs import files
from vrx.runs.identity import finetune_identity
from vrx.runs.layer_selection import select_layers

Command = Callable[..., subprocess.CompletedProcess]
ARTIFACTS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml") if path.stem != "none")
TWO = ("bunny-llama3-8b", "llava-1.5-7b")
MODELS = {"figure3": TWO, "table4": TWO, "calibration": (*TWO, "llava-1.5-13b", "llava-1.5-7b-hf", "llava-next-7b")}
FINE_TUNES = ("table1", "table2", "table3_llava_7b", "table3_llava_13b", "figure2")


@functools.cache  # composing a run takes a tenth of a second
def identities(*overrides: str, containing: str = "") -> list[str]:
    """What the runs of a sweep train, each as a digest."""
    runs = sweep_runs(*overrides, containing=containing)
    return [files.digest(finetune_identity(run, list(select_layers(run)), "the data")) for run in runs]


def test_the_papers_fifty_fine_tunes_are_forty_one():
    listed = [identity for name in FINE_TUNES for identity in identities(f"sweep={name}")]
    assert (len(listed), len(set(listed))) == (50, 41)
    assert set(identities("sweep=figure3")) <= set(listed)


@pytest.mark.parametrize("name", ARTIFACTS)
def test_every_sweep_composes_at_full_size_and_in_small(name: str):
    chosen = ["selector=random"] if name == "controls" else []  # its others wait for importance scores
    full = identities(f"sweep={name}", *chosen)
    assert full
    if name != "table3_llava_13b":  # of 40 layers
        small = identities(f"sweep={name}", "model=tiny", "seed=0,1", *chosen, containing="seed=1")
        assert len(small) * len(MODELS.get(name, ("one",))) == len(full)


def test_a_run_is_named_by_the_overrides_that_not_all_share():
    assert names([["model=tiny", "seed=0"], ["model=tiny", "seed=1"]]) == ["seed=0", "seed=1"]
    assert names([["sweep=smoke", "seed=0"]]) == ["seed=0"]
    assert names([["seed=0"], ["seed=0", "job=score"]]) == ["seed=0", "job=score"]
    assert names([[]]) == ["the default run"]


def test_what_the_sweeper_composes_is_what_the_launcher_starts():
    with composing(CONF):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", [], RunMode.MULTIRUN)
        compose = Composer(HydraContext(config_loader=loader, callbacks=Callbacks(config)), config).compose
        checked = loader.load_sweep_config(config, ["seed=1"])
        assert compose(["seed=1"]) is checked
        assert compose(["seed=1"]) is not checked, "a run that a command names twice has a configuration of its own"
        assert compose(["seed=1"]) == checked


# ---- dry runs


def test_a_dry_run_lists_and_leaves_nothing_behind(vrx: Command, tmp_path: Path):
    listed = vrx("sweep=table2", "model=tiny", "sweep.dry_run=true")
    assert listed.returncode == 0, listed.stderr
    assert "7 distinct runs: 0 done, 0 resumable, 7 to do" in listed.stdout
    assert "layer_count=16_layers (data not made yet)\n" in listed.stdout
    assert not list(tmp_path.iterdir())


def test_a_dry_run_lists_a_single_run_too(vrx: Command, tmp_path: Path):
    listed = vrx("seed=3", "sweep.dry_run=true")
    assert "1 distinct runs: 0 done, 0 resumable, 1 to do" in listed.stdout
    assert not list(tmp_path.iterdir())


def test_a_dry_run_lists_the_scores_that_would_be_computed_first(vrx: Command):
    listed = vrx("-m", "selector=block_influence,random", "sweep.dry_run=true")
    assert listed.returncode == 0, listed.stderr
    assert "job=score" in listed.stdout
    assert "3 distinct runs: 0 done, 0 resumable, 3 to do" in listed.stdout


def test_a_dry_run_never_ends_silently(vrx: Command):
    listed = vrx("selector=block_influence", "job=evaluate", "sweep.dry_run=true")
    assert "1 distinct runs" in listed.stdout


# ---- jobs that share a run directory


def test_all_questions_and_labels_of_one_run_are_recorded(vrx: Command, tmp_path: Path):
    """Both selectors choose all 32 layers: one training, whatever is asked of it."""
    options = ("selector=all,sparse_uniform", "layer_count=32_layers", "benchmark=tiny_gqa,tiny_mmlu")
    command = ("-m", *options, *STEPS, "engine.name=torch", "eval.limit=4")
    ended = vrx(*command)
    assert ended.returncode == 0, ended.stderr
    (record,) = tmp_path.glob("outputs/finetune/tiny/*/record.json")
    content = files.read_json(record)
    assert content["selectors"] == ["all", "sparse_uniform"]
    assert set(content["scores"]) == {"tiny_gqa", "tiny_mmlu"}
    listed = vrx(*command, "sweep.dry_run=true")
    assert "4 distinct runs: 4 done, 0 resumable, 0 to do" in listed.stdout


# ---- what is refused and what fails


def test_refused_runs_are_named_counted_and_their_reasons_collapsed(vrx: Command):
    refused = vrx("-m", "seed=0,1", "layer_count.k=33,34", "sweep.dry_run=true")
    assert refused.returncode == 2
    lines = refused.stderr.splitlines()
    assert lines[0].startswith("vrx: refused: 2 runs (") and "seed=0 layer_count.k=33" in lines[0]
    assert lines[1].startswith("vrx: refused: 2 runs (") and "seed=1 layer_count.k=34" in lines[1]
    assert lines[2] == "vrx: 4 of 4 runs were refused, for the reasons above"
    assert "0 distinct runs" in refused.stdout


def test_a_failed_run_is_reported_at_once_and_does_not_stop_the_others(vrx: Command, tmp_path: Path):
    told = vrx("-m", "selector.layers=[0]", "train.lr=10000,1e-3", *STEPS, "engine.name=torch", "benchmark=tiny_gqa")
    assert told.returncode == 2
    failed, done = [line for line in told.stderr.splitlines() if line.startswith(("vrx: failed: ", "vrx: done: "))]
    assert "train.lr=10000" in failed and " of step " in failed and "train.lr=0.001" in done
    assert "1 of 2 runs done" in told.stdout
    assert told.stderr.endswith("vrx: 1 of 2 runs failed; the same command tries just these again\n")
    assert len(list(tmp_path.glob("outputs/finetune/tiny/*/record.json"))) == 1


def test_a_sweep_over_several_nodes_is_refused_with_the_way_that_works(vrx: Command):
    nodes = ("runtime.num_nodes=2", "runtime.node_rank=0", "runtime.rendezvous=127.0.0.1:1")
    refused = vrx("sweep=smoke", "train.micro_batch_size=1", *nodes)
    assert refused.returncode == 2 and "hydra.launcher.nodes=2" in refused.stderr.splitlines()[-1]


# ---- what Hydra's users expect


def test_every_override_reaches_the_runs(vrx: Command):
    listed = vrx("-m", "~benchmark.tiny_gqa", "seed=0,1", "sweep.dry_run=true", "job=check", "+wandb.tags=[a]")
    assert listed.returncode == 0, listed.stderr


CALLBACK = """
from hydra.experimental.callback import Callback


class Note(Callback):
    def __init__(self, path):
        self.path = path

    def on_job_end(self, config, job_return, **kwargs):
        benchmarks = ",".join(config.benchmark)
        with open(self.path, "a") as file:
            file.write(f"{config.hydra.job.num} {config.seed} {benchmarks} {job_return.return_value}\\n")
"""


def test_a_multirun_has_flags_deletions_callbacks_job_numbers_and_return_values(
    vrx: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "note.py").write_text(CALLBACK)
    (tmp_path / "more" / "benchmark").mkdir(parents=True)
    two = "defaults: [tiny_gqa, tiny_mmlu]\n"
    (tmp_path / "more" / "benchmark" / "two.yaml").write_text(two)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    callback = ("+hydra.callbacks.note._target_=note.Note", "+hydra.callbacks.note.path=notes")
    options = [item for item in PLAIN if not item.startswith("benchmark=")]
    ended = vrx(
        *("-m", "--config-dir", "more", "benchmark=two", "~benchmark.tiny_gqa", "seed=0,1"),
        *(*options, *callback, "hydra.sweep.dir=swept"),
    )
    assert ended.returncode == 0, ended.stderr
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert [line[:3] for line in notes] == [["0", "0", "tiny_mmlu"], ["1", "1", "tiny_mmlu"]]
    assert all(0 <= float(line[3]) <= 1 for line in notes)
    assert (tmp_path / "swept" / "multirun.yaml").is_file()
    assert len(list((tmp_path / "swept" / "command_line").glob("*.log"))) == 2


def test_a_launcher_named_in_a_sweep_file_is_honoured(vrx: Command, tmp_path: Path):
    (tmp_path / "more" / "sweep").mkdir(parents=True)
    lines = ["# @package _global_", "defaults: [{override /hydra/launcher: basic}]", "hydra:", "  mode: MULTIRUN"]
    (tmp_path / "more" / "sweep" / "mine.yaml").write_text("\n".join(lines))
    shown: Any = vrx("--config-dir", "more", "sweep=mine", "--cfg", "hydra", "-p", "hydra.launcher")
    assert "basic_launcher.BasicLauncher" in shown.stdout
