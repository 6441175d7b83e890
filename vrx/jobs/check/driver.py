"""`vrx check`: whether a run or a sweep can work, and what it will cost, before it occupies a GPU."""

from __future__ import annotations

import dataclasses

from vrx.config.errors import NoImportanceScores, UserError
from vrx.config.layers import num_selected
from vrx.config.schema import RunConfig
from vrx.data import run_data
from vrx.jobs.check import estimate, model_files, preflight
from vrx.jobs.check.estimate import RunCost
from vrx.jobs.check.findings import Finding, Findings
from vrx.jobs.check.loaders import loaders
from vrx.models.native_facts import NativeCounts, counts_of
from vrx.runs.layer_selection import select_layers


def check(run: RunConfig) -> None:
    """Check one run; `UserError` at the end if a check failed."""
    together([run])


def together(runs: list[RunConfig]) -> None:
    """Check the runs of a sweep at once, and print what they cost; `UserError` at the end if a check failed."""
    findings = Findings()
    costs: dict[str, RunCost] = {}  # by identity: equal runs are trained once
    for run in runs:
        as_finetune = dataclasses.replace(run, job=dataclasses.replace(run.job, name="finetune"))
        if (priced := _check_run(as_finetune, findings, in_sweep=len(runs) > 1)) is not None:
            costs.setdefault(*priced)
    for cost in costs.values():
        print(cost)
    if costs:
        findings.add([estimate.disk_space(runs[0], list(costs.values()))])
        print("\n".join(estimate.totals(runs[0], list(costs.values()))))
    if findings.num_failed:
        raise UserError(f"{findings.num_failed} of {len(findings.printed)} checks failed (lines marked BAD)")


def _check_run(run: RunConfig, findings: Findings, *, in_sweep: bool) -> tuple[str, RunCost] | None:
    """Add the findings of a run; returns its identity's digest and its cost where that can be estimated.

    in_sweep: the sweep computes importance scores that do not exist yet, so their absence is no failure.
    """
    of_parts = findings.once(lambda: model_files.parts(run.model), run.model)
    findings.add(of_parts)
    data_findings, table = findings.once(lambda: preflight.data(run), run.instructions)
    findings.add(data_findings)
    if not any(finding.bad for finding in of_parts):
        findings.add(findings.once(lambda: loaders(run, table), "loaders", run.model, run.instructions))
    findings.add(findings.once(lambda: list(preflight.questions(run)), run.benchmark))
    processes, finding = preflight.processes(run)
    findings.add([finding, *preflight.environment(run)])
    shape = counts_of(run)
    if shape is None:
        message = f"{run.model.name}: no config.json and no published shape, so no cost estimate"
        findings.add([Finding("shape", message)])
        return None
    if isinstance(shape, NativeCounts):
        findings.add([estimate.sizes(shape)])
    if shape.backbone.num_layers != run.model.num_layers:
        message = f"{run.model.num_layers}: {run.model.lvlm or run.model.backbone} has {shape.backbone.num_layers}"
        findings.add([Finding("model.num_layers", message, bad=True)])
        return None
    try:
        digest = "" if table is None else run_data.digest(run, table.parent)
        layers = select_layers(run, digest)
    except NoImportanceScores as error:
        findings.add([Finding("selector", str(error), bad=not in_sweep)])
        layers = range(num_selected(run))  # which ones they are makes no difference to the cost
    return estimate.run_cost(run, layers, shape, table=table, processes=processes)
