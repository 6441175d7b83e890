"""The check by the loaders of the run itself, in a worker: they read every part of the model, but load no weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx.config.errors import RunFailed
from vrx.config.schema import RunConfig
from vrx.jobs.check import findings_file
from vrx.jobs.check.findings import Finding
from vrx.launch.node import this_node
from vrx.launch.workers import launch
from vrx.runs.files import read_json, write_json
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir


def loaders(run: RunConfig, table: Path | None) -> list[Finding]:
    """What the loaders of the model, its tokenizer and its images find, and the encoding of some conversations.

    table: the converted instruction data, None where they are missing.
    """
    if this_node(run.runtime).num_nodes > 1:
        return [Finding("loaders", "not tried, as the run has several nodes", note=True)]
    folder = run.runtime.output_path / "check"
    alone = dataclasses.replace(run.runtime, num_gpus=0, cpu_processes=1)
    findings_file(folder).unlink(missing_ok=True)
    write_config(folder, dataclasses.replace(run, runtime=alone))
    write_json(RunDir(folder).data, {"table": str(table) if table else None})
    try:
        launch("check", folder, alone)
    except RunFailed as error:
        return [Finding("loaders", str(error), bad=True)]
    return [Finding(**finding) for finding in read_json(findings_file(folder))]
