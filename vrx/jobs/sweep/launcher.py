"""Hydra's launcher `vrx`: the runs of a multirun, each in a process of its own, finished runs skipped."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from vrx.config.errors import RunFailed, UserError
from vrx.config.schema import RunConfig
from vrx.jobs.run_job import mean_score
from vrx.jobs.sweep.composition import Composer
from vrx.jobs.sweep.plan import (
    Compose,
    Plan,
    PlannedRun,
    compose_runs,
    make_plan,
    refused_error,
    score_overrides,
    takes_all_runs,
)
from vrx.launch.gpus import gpu_numbers
from vrx.launch.node import this_node
from vrx.launch.sweep_runner import Job, JobState, Scheduler, distinct
from vrx.runs.status import State

PLUGIN_MODULE = "hydra_plugins.vrx"  # Hydra accepts plugins from this package alone; see conf/hydra/launcher/vrx.yaml


class RunReturn(JobReturn):
    """What a sweeper gets of a run; unlike Hydra's own, a failed run prints nothing when its value is asked for."""

    @property
    def return_value(self) -> Any:
        if self.status is JobStatus.COMPLETED:
            return self._return_value
        raise self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


class DryRunDone(Exception):
    """A dry run has listed its runs, and the sweeper must not go on as if they had results."""


class VrxLauncher(Launcher):
    """Starts each run as a process of its own; see `vrx.launch.sweep_runner.Scheduler`."""

    __module__ = PLUGIN_MODULE

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by the sweeper, with the configuration of the whole multirun."""
        self.config = config
        if config.sweep.dry_run:  # the sweeper writes multirun.yaml, and a dry run writes nothing
            self.dry_folder = tempfile.TemporaryDirectory()
            config.hydra.sweep.dir = self.dry_folder.name
        self.compose = Composer(hydra_context, config).compose

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Bring the runs to their end; returns the mean score of each, in order.

        Scores by which runs select their layers are computed first: which run is which depends on them.
        """
        runs = compose_runs(job_overrides, self.compose)
        for number, each in enumerate(runs, initial_job_idx):
            with open_dict(each.config):
                each.config.hydra.job.id = each.config.hydra.job.num = number
        if runs[0].config.sweep.dry_run:
            list_runs(runs, self.compose)
            if "basic_sweeper" not in self.config.hydra.sweeper._target_:
                raise DryRunDone
            return [_completed(each, None) for each in runs]
        scoring = compose_runs(score_overrides(runs), self.compose)
        if scoring:
            self._bring_about(make_plan(scoring, dry_run=False))
        plan = make_plan(runs, dry_run=False)
        if plan.runs and takes_all_runs(plan.runs[0]):
            plan.runs[0].module.together([each.run for each in plan.runs])
            return self._returns(runs, {each: _completed(each, None) for each in plan.runs})
        returns, jobs = self._bring_about(plan)
        self._show(plan, jobs)
        return self._returns(runs, returns)

    def _bring_about(self, plan: Plan) -> tuple[dict[PlannedRun, JobReturn], list[Job]]:
        if not plan.runs:
            return {}, []
        run = plan.runs[0].run
        assert run is not None
        if this_node(run.runtime).num_nodes > 1:
            raise UserError(
                "runtime.num_nodes: a sweep starts its runs on this machine; for several nodes a run, start each by "
                "itself or give them to SLURM, hydra/launcher=submitit_slurm hydra.launcher.nodes=2"
            )
        with tempfile.TemporaryDirectory() as folder:
            by_run = {each: _job(each, Path(folder) / str(number)) for number, each in enumerate(plan.runs)}
            same = distinct(list(by_run.values()))
            jobs = list(dict.fromkeys(same.values()))
            options = {"gpus_per_run": run.runtime.gpus_per_run, "fail_fast": run.sweep.fail_fast}
            Scheduler(jobs, logs=self._logs(run), gpus=gpu_numbers(), **options).run()
            returns = {each: _returned(each, same[job]) for each, job in by_run.items()}
        return returns, jobs

    def _logs(self, run: RunConfig) -> Path:
        return Path(self.config.hydra.sweep.dir).absolute() / (run.sweep.name or "command_line")

    def _show(self, plan: Plan, jobs: Sequence[Job]) -> None:
        """The table or figure that the sweep makes, and how many runs are done."""
        from vrx.report.paper import load_paper  # here, as these import numpy, which `vrx --help` does not need
        from vrx.report.paper_artifacts import CALIBRATION, artifact_as_text

        if not plan.runs:
            return
        run = plan.runs[0].run
        assert run is not None
        root, results = run.runtime.output_path, run.runtime.results_paths
        if run.sweep.name == CALIBRATION:
            names = dict.fromkeys(each.run.model.name for each in plan.runs if each.run is not None)
            for name in names:
                print(artifact_as_text(CALIBRATION, root, results=results, model=name))
        elif run.sweep.name is not None and run.sweep.name in load_paper().artifacts:
            print(artifact_as_text(run.sweep.name, root, results=results, model=run.model.name))
        num_done = sum(job.state is JobState.DONE for job in jobs)
        print(f"{num_done} of {len(jobs)} runs done; logs: {self._logs(run)}")

    @staticmethod
    def _returns(runs: Sequence[PlannedRun], returns: dict[PlannedRun, JobReturn]) -> list[JobReturn]:
        """What the sweeper gets, in order; one error stands for all failures, since each was reported before."""
        num_refused = sum(each not in returns for each in runs)
        num_failed = sum(each.status is JobStatus.FAILED for each in returns.values())
        error: UserError | None = refused_error(num_refused, len(runs)) if num_refused else None
        if num_failed:
            failed = f"{num_failed} of {len(runs)} runs failed; the same command tries just these again"
            error = RunFailed(f"{failed}; {num_refused} were refused" if num_refused else failed)
        for each in returns.values():
            if each.status is JobStatus.FAILED:
                each.return_value = error
        return [returns[each] if each in returns else _failed(each, error) for each in runs]


def register() -> None:
    """Make the launcher known to Hydra as `hydra/launcher=vrx`.

    Hydra looks the class up by its name in the package `hydra_plugins`, which exists only where a plugin is installed.
    """
    plugins = Plugins.instance()  # imports that package where it exists
    package_name, _, name = PLUGIN_MODULE.partition(".")
    package = sys.modules.setdefault(package_name, ModuleType(package_name))
    setattr(package, name, sys.modules[__name__])
    plugins.register(VrxLauncher)


def list_runs(runs: Sequence[PlannedRun], compose: Compose) -> None:
    """Print what a command would run; starts nothing and writes nothing. `UserError` where runs are refused."""
    scoring = compose_runs(score_overrides(runs), compose)
    plan = make_plan([*scoring, *runs], dry_run=True)
    if plan.runs and takes_all_runs(plan.runs[0]):
        print("\n".join(f"job={each.config.job.name}  {each.name}" for each in plan.runs))
    else:
        jobs = [Job(each.name, [], each.look, each.status, each.asks) for each in plan.runs]
        print(_listing(list(dict.fromkeys(distinct(jobs).values()))))
    if plan.num_refused:
        raise refused_error(plan.num_refused, len(scoring) + len(runs))


def _listing(jobs: Sequence[Job]) -> str:
    """What a dry run prints: every run with its state and, if similar runs have finished, its expected hours."""
    lines = []
    for job in jobs:
        expected = job.status.expected_hours
        hours = f"{expected:.2f} h" if expected and not job.status.is_done else ""
        reason = "" if job.status.is_done else f" ({job.status.reason})"
        lines.append(f"{job.status.state:<10} {hours:>9}  {job.name}{reason}")
    counts = ", ".join(f"{sum(job.status.state == state for job in jobs)} {state}" for state in get_args(State))
    unfinished = [job for job in jobs if job.status.state != "done"]
    known = [job.status.expected_hours for job in unfinished if job.status.expected_hours]
    hours = f"; about {sum(known):.2f} h" if known and len(known) == len(unfinished) else ""
    return "\n".join([*lines, f"{len(jobs)} distinct runs: {counts}{hours}"])


def _job(planned: PlannedRun, path: Path) -> Job:
    path.with_suffix(".yaml").write_text(OmegaConf.to_yaml(planned.config), encoding="utf-8")
    command = [sys.executable, "-m", "vrx.jobs.sweep.child", str(path)]
    return Job(planned.name, command, planned.look, planned.status, planned.asks)


def _returned(planned: PlannedRun, job: Job) -> JobReturn:
    """What the run's process returned, or of a run that was finished before, the score in its record."""
    if job.state is not JobState.DONE:
        return _failed(planned, None)
    result = Path(job.command[-1]).with_suffix(".return")
    assert planned.run is not None
    value = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else mean_score(planned.run)
    return _completed(planned, value)


def _completed(planned: PlannedRun, value: float | None) -> JobReturn:
    result = _job_return(planned, JobStatus.COMPLETED)
    result.return_value = value
    return result


def _failed(planned: PlannedRun, error: UserError | None) -> JobReturn:
    result = _job_return(planned, JobStatus.FAILED)
    result.return_value = error
    return result


def _job_return(planned: PlannedRun, status: JobStatus) -> JobReturn:
    hydra_config = OmegaConf.masked_copy(planned.config, "hydra")
    return RunReturn(overrides=planned.overrides, cfg=planned.task_config, hydra_cfg=hydra_config, status=status)
