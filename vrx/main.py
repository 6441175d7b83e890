"""The command `vrx`: Hydra composes a run, the run is checked and typed, and its job is called."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vrx.config.command_line import HELP_FLAGS, job_word, read_arguments, split
from vrx.config.compose import compose_config, register_schema
from vrx.config.explain import explain, is_refusal
from vrx.config.help import command_help, job_help
from vrx.config.paths import CONF, check_conf
from vrx.jobs.run_job import is_multirun, run_job
from vrx.jobs.sweep import launcher
from vrx.jobs.sweep.plan import PlannedRun
from vrx.launch import preemption
from vrx.launch.logging import log


def main() -> None:
    """Entry point of the installed command.

    A user's mistake is one line and exit status 2, also after a multirun; a command that was asked to stop and can be
    resumed ends with status 75.
    """
    status = 0

    def report(error: BaseException) -> None:
        nonlocal status
        if not is_refusal(error) or wants_traceback:
            raise error
        log(explain(error, split(sys.argv[1:])[1]))
        status = 2

    def task(composed: DictConfig) -> float | None:
        if is_multirun():  # an error goes to the launcher, and from there to the sweeper
            return run_job(composed)
        try:
            _run(composed)
        except Exception as error:
            report(error)  # here, as Hydra would print several lines
        return None

    _accept_every_sign()
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        _call_hydra(task)
    except launcher.DryRunDone:
        pass
    except KeyboardInterrupt:
        log("interrupted; run the same command to resume")
        sys.exit(130)
    except preemption.Preempted as stopped:
        log(str(stopped))
        sys.exit(preemption.RESUME)
    except BrokenPipeError:  # who reads our output has ended, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        report(error)
    sys.exit(status)


def _accept_every_sign() -> None:
    """Have a terminal that takes only ASCII show ? for a sign such as ±."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _call_hydra(task: Callable[[DictConfig], float | None]) -> None:
    """Have Hydra compose the runs of the command line and call `task` for each, or print the help."""
    register_schema()
    launcher.register()
    preemption.install()
    check_conf()
    if text := _help_text(sys.argv[1:]):
        print(text, flush=True)  # here, where a reader that has ended is noticed
        return
    with _as_hydra_reads_it(read_arguments(sys.argv[1:])):
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()


def _run(composed: DictConfig) -> None:
    """One run outside a sweep; with `sweep.dry_run=true` it is only listed."""
    if not composed.sweep.dry_run:
        run_job(composed)
        return
    overrides = list(HydraConfig.get().overrides.task)
    launcher.list_runs([PlannedRun(overrides, composed)], compose_config)


def _help_text(arguments: list[str]) -> str | None:
    """What `vrx --help` or `vrx <job> --help` prints; None for any other command."""
    flags, overrides = split(arguments)
    if not set(flags) & {*HELP_FLAGS}:
        return None
    job = job_word(overrides)
    return job_help(job) if job else command_help()


@contextmanager
def _as_hydra_reads_it(arguments: list[str]) -> Iterator[None]:
    """Give Hydra these arguments, and have it pass on errors instead of printing several lines for each."""
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [argv[0], *arguments], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


if __name__ == "__main__":
    main()
