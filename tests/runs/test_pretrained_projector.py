"""Which jobs take the projector of a finished pre-training for `model.projector=pretrained`, and which do without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.config_runs import run_of

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.runs.files import digest, write_json
from vrx.runs.identity import pretrain_identity
from vrx.runs.pretrained_projector import PRETRAINED, with_pretrained_projector
from vrx.runs.record import Record, model_facts
from vrx.runs.run_dir import RunDir

LOADING = ("finetune", "evaluate", "score", "revert", "prune", "check", "export", "ask", "compare", "bench")
Make = Callable[..., RunConfig]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Compose a run whose projector is to be found below an empty folder."""
    return lambda *overrides: run_of(f"model.projector={PRETRAINED}", f"runtime.output_root={tmp_path}", *overrides)


def finish_pretraining(run: RunConfig, seed: int) -> str:
    """Leave the files of a finished pre-training; gives the folder of its projector."""
    identity = {**pretrain_identity(run, "d" * 64), "seed": seed}
    directory = RunDir(run.runtime.output_path / "pretrain" / run.model.name / f"seed{seed}")
    directory.projector.mkdir(parents=True)
    write_json(directory.train_summary, {})
    Record(digest(identity)[:8], identity, model_facts(run.model), [], {}).write(directory.record)
    return str(directory.projector)


@pytest.mark.parametrize("job", LOADING)
def test_a_job_that_loads_the_model_takes_the_only_projector_that_fits(job: str, make: Make):
    with pytest.raises(UserError, match="no finished pre-training between this tower and backbone"):
        with_pretrained_projector(make(f"job={job}"))
    projector = finish_pretraining(make("job=pretrain"), 0)
    assert with_pretrained_projector(make(f"job={job}")).model.projector == projector
    finish_pretraining(make("job=pretrain"), 1)
    with pytest.raises(UserError, match=r"several fit; choose one by model\.projector=<folder>"):
        with_pretrained_projector(make(f"job={job}"))


@pytest.mark.parametrize("job", ["pretrain", "report", "score_answers"])
def test_a_job_that_loads_no_model_starts_without_a_projector(job: str, make: Make):
    assert with_pretrained_projector(make(f"job={job}")).model.projector == PRETRAINED


@pytest.mark.parametrize(
    "options",
    [("job=evaluate", "job.run=x"), ("job=ask", "job.run=x"), ("job=compare", "compare.runs=[x]"), ("job=demo",)],
    ids=lambda options: options[0],
)
def test_finished_runs_bring_their_own_unless_one_fits(options: tuple[str, ...], make: Make):
    """The one that fits stands in where the projector of a run was moved."""
    assert with_pretrained_projector(make(*options)).model.projector == PRETRAINED
    projector = finish_pretraining(make("job=pretrain"), 0)
    assert with_pretrained_projector(make(*options)).model.projector == projector
    finish_pretraining(make("job=pretrain"), 1)
    assert with_pretrained_projector(make(*options)).model.projector == PRETRAINED
