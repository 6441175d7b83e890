"""The process of one run of a sweep, which runs a job as Hydra's launchers do: `python -m vrx.jobs.sweep.child <path>`.

<path>.config holds the composed configuration; the job's return value goes to <path>.return.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobStatus
from hydra.core.utils import run_job as hydra_run_job
from hydra.types import HydraContext

from vrx.config.compose import composing
from vrx.config.explain import explain, is_refusal
from vrx.config.paths import CONF
from vrx.jobs.run_job import run_job
from vrx.jobs.sweep.launcher import register
from vrx.launch.logging import log
from vrx.launch.ranks import die_with_parent


def main() -> None:
    """Run the job, print one line and exit with status 2 for a user's mistake."""
    die_with_parent()
    path = Path(sys.argv[1])
    register()  # before classes of Hydra's plugins are unpickled: Hydra loads these modules anew
    config = pickle.loads(path.with_suffix(".config").read_bytes())
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


if __name__ == "__main__":
    main()
