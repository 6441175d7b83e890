"""What `vrx --help` and `vrx <job> --help` say; the purposes of jobs come from the comments in `conf/job/`."""

from __future__ import annotations

import string
import textwrap

import yaml

from vrx.config.command_line import job_names
from vrx.config.paths import CONF

INTERNAL_GROUPS = ("hydra", "job", "model_job", "model_recipe")  # not to be chosen by name, or listed on their own


def command_help() -> str:
    """The text of `vrx --help`: `hydra.help.template` of conf/config.yaml.

    Hydra would fill it in too, but reads all of conf twice for it, which takes longer than everything else.
    """
    config = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    template = string.Template(config["hydra"]["help"]["template"])
    return template.substitute(JOBS=_jobs_text(), APP_CONFIG_GROUPS=_groups_text())


def _groups_text() -> str:
    """Every group with its options, wrapped for a terminal."""
    lines = []
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir() and path.name not in INTERNAL_GROUPS):
        options = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        lines.append(
            textwrap.fill(f"{folder.name}: {options}", width=110, subsequent_indent="    ", break_on_hyphens=False)
        )
    return "\n".join([*lines, ""])


def job_help(job: str) -> str:
    """The purpose of a job, what it makes, an example, and its options with defaults and comments."""
    comments, body = _parts(job)
    options = [line for line in body if not line.startswith("job:")]
    sections = [number for number, line in enumerate(options) if line.rstrip().endswith(":") or ": #" in line]
    text = [f"vrx {job.replace('_', '-')}: {comments[0]}", "", *comments[1:], ""]
    if options:
        start = sections[0]
        first = f"{options[start].partition(':')[0]}.{options[start + 1].partition(':')[0].strip()}"
        text += [f"Options and their defaults; on the command line {first}=…", "", *options]
    else:
        text.append("This job has no options of its own.")
    text += ["", "job.run=<run directory> names a finished run to work on." if _takes_run(job) else ""]
    text += ["Everything else that can be set: vrx --help, vrx --cfg job"]
    return "\n".join(line for index, line in enumerate(text) if line or text[index - 1])


def _takes_run(job: str) -> bool:
    return job in ("evaluate", "prune", "revert", "score", "score_answers")


def _jobs_text() -> str:
    return "\n".join(f"  {job.replace('_', '-'):<13} {_parts(job)[0][0]}" for job in job_names())


def _parts(job: str) -> tuple[list[str], list[str]]:
    """The comments at the head of a job's file, without their marks, and its other lines."""
    lines = (CONF / "job" / f"{job}.yaml").read_text(encoding="utf-8").splitlines()
    comments = [line.removeprefix("# ") for line in lines if line.startswith("# ") and "@package" not in line]
    return comments, [line for line in lines if line and not line.startswith("#")]
