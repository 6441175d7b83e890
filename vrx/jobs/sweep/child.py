"""The process of one run of a sweep, which runs a job as Hydra's launchers do: `python -m vrx.jobs.sweep.child <path>`.

<path>.yaml holds the composed configuration, Hydra's part included; the job's return value goes to <path>.return.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobStatus
from hydra.core.utils import run_job as hydra_run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from vrx.config.compose import composing
from vrx.config.explain import explain, is_refusal
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig
from vrx.jobs.run_job import run_job
from vrx.launch.logging import log
from vrx.launch.preemption import RESUME, Preempted
from vrx.launch.ranks import die_with_parent


def main() -> None:
    """Run the job; print one line and exit with status 2 for a user's mistake, with 75 where it was asked to stop."""
    die_with_parent()
    try:
        _run()
    except Preempted as stopped:
        log(str(stopped))
        sys.exit(RESUME)


def _run() -> None:
    path = Path(sys.argv[1])
    config = read_config(path.with_suffix(".yaml"))
    with composing(CONF):
        loader = GlobalHydra.instance().config_loader()
        context = HydraContext(config_loader=loader, callbacks=Callbacks(config))
        result = hydra_run_job(
            hydra_context=context,
            task_function=run_job,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    if result.status is JobStatus.FAILED:
        error = result._return_value
        if not is_refusal(error):
            raise error
        log(explain(error, list(config.hydra.overrides.task)))
        sys.exit(2)
    path.with_suffix(".return").write_text(json.dumps(result.return_value), encoding="utf-8")


def read_config(path: Path) -> DictConfig:
    """The composed configuration in a file, typed again: Hydra's part as `HydraConf`, the rest as the schema."""
    config, values = OmegaConf.structured(RunConfig), OmegaConf.load(path)
    assert isinstance(values, DictConfig)
    with open_dict(config):
        config.hydra = OmegaConf.structured(HydraConf, flags={"struct": False})  # Hydra adds keys of its own
        config.hydra.pop("defaults")
        config.merge_with(values)
    OmegaConf.set_struct(config, True)
    return config


if __name__ == "__main__":
    main()
