"""From what was typed to what Hydra understands: a first word names the job, a number an option."""

from __future__ import annotations

import re

from vrx.config.errors import UserError
from vrx.config.explain import did_you_mean
from vrx.config.number_options import expand_number
from vrx.config.paths import CONF
from vrx.config.renames import rename_error
from vrx.config.switches import refuse_number

VALUE_FLAGS = ("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "-p", "--package", "-c", "--cfg")
VALUE_FLAGS += ("-i", "--info", "--experimental-rerun")
FREE_TEXTS = ("image", "question")  # keys whose values are taken as they are typed
REMOVABLE = ("~benchmark.", "~hydra")  # what may be taken away: entries of a dictionary, and Hydra's own keys
HELP_FLAGS = ("-h", "--help")


def read_arguments(arguments: list[str]) -> list[str]:
    """The arguments as Hydra takes them, flags first; `UserError` for an unknown job and for a renamed key."""
    flags, overrides = split(arguments)
    if (job := job_word(overrides)) is not None:
        overrides = [f"job={job}", *overrides[1:]]
    for override in overrides:
        if message := rename_error(override):
            raise UserError(message)
        refuse_number(override)
        if digits := re.search(r"\d{300,}", override):  # more than a number of 64 bits has, which no library expects
            raise UserError(f"{override[: digits.start() + 8]}…: a number of {len(digits[0])} digits")
        if override.startswith("~") and not override.startswith(REMOVABLE):
            raise UserError(f"{override}: no key can be taken away; give it a value, null where that is valid")
    return [*flags, *(_quoted(expand_number(override)) for override in overrides)]


def _quoted(override: str) -> str:
    """The value of a free text in quotes, so that Hydra reads its commas, brackets and signs as text."""
    key, _, value = override.partition("=")
    if key not in FREE_TEXTS or value in ("", "null") or _is_quoted(value):
        return override
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # backslashes count only before a quote
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped).replace("${", "\\${")
    return f"{key}='{escaped}'"


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    is_value = False
    for argument in arguments:
        (flags if is_value or argument.startswith("-") else overrides).append(argument)
        is_value = argument in VALUE_FLAGS
    return flags, overrides


def job_word(overrides: list[str]) -> str | None:
    """The job that the first word names, as in `vrx prune …`; `UserError` for a word that is no job."""
    if not overrides or "=" in overrides[0] or overrides[0].startswith("~"):
        return None
    word, jobs = overrides[0].replace("-", "_"), job_names()
    if word in jobs:
        return word
    if (CONF / "sweep" / f"{word}.yaml").is_file():
        raise UserError(f"{word}: not a job but a sweep; run: vrx sweep={word}")
    raise UserError(f"{word}: no such job; {did_you_mean(word, jobs)}valid: {', '.join(jobs)}")


def job_names() -> list[str]:
    """Every job, by name."""
    return sorted(path.stem for path in (CONF / "job").glob("*.yaml"))
