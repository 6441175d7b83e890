"""The command `vrx`: Hydra composes a run, the run is checked and typed, and its job is called."""

from __future__ import annotations

import difflib
import os
import re
import sys
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vrx.config.compose import composing, is_local, is_sweep
from vrx.config.errors import UserError, disk_error_message
from vrx.config.frozen import to_run
from vrx.config.paths import CONF
from vrx.config.renames import rename_error
from vrx.config.resolve import resolve_name
from vrx.config.schema import RunConfig
from vrx.launch.workers import on_all_nodes


def _keys(schema: Any = RunConfig, prefix: str = "") -> list[str]:
    """Every dotted key of the schema; `*` stands for the names of a dictionary."""
    found = []
    hints = get_type_hints(schema)
    for item in fields(schema):
        nested = [part for part in (hints[item.name], *get_args(hints[item.name])) if is_dataclass(part)]
        star = ".*" if nested and hints[item.name] not in nested and get_args(hints[item.name])[0] is str else ""
        found.append(prefix + item.name)
        for part in nested:
            found += _keys(part, f"{prefix}{item.name}{star}.")
    return found


def _no_such_key(override: str) -> str:
    name = override.lstrip("+~").partition("=")[0]
    known = _keys()
    close = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    siblings = [key for key in known if key.rpartition(".")[0] == name.rpartition(".")[0]]
    top = [key for key in known if "." not in key]
    return (
        f"{override}: no such key; {f'did you mean {close[0]}? ' if close else ''}valid: {', '.join(siblings or top)}"
    )


def explain(error: Exception, overrides: list[str]) -> str:
    """One line for a refused configuration: the key, the value, and what would be valid."""
    if message := disk_error_message(error):
        return message
    text = f"{error}\n{error.__cause__ or ''}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not key=value: {error.message.splitlines()[0]}"
    if option := re.search(r"Could not (?:find|load) '([\w./-]+)/([^/']+)'", text):
        group, name = option.groups()
        valid = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
        close = difflib.get_close_matches(name, valid, 1)
        return (
            f"{group}={name}: no such option; {f'did you mean {close[0]}? ' if close else ''}valid: {', '.join(valid)}"
        )
    if named_override := re.search(r"(?:Could not override|Error merging override) '?([^'\s=]+)", text):
        start = named_override.group(1)
        override = next((item for item in overrides if item.lstrip("+~").startswith(start)), start)
        if "not in" in text or "Could not override" in text:
            return _no_such_key(override)
        reason = str(error.__cause__).splitlines()[0]
        return f"{override}: {reason}"
    if key := re.search(r"Key '([^']+)' (?:is )?not in", text):
        override = next((item for item in overrides if key.group(1) in item), key.group(1))
        return _no_such_key(override)
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


REFUSALS = (UserError, HydraException, OmegaConfBaseException, OSError)  # of OSError a full or read-only disk alone


def main() -> None:
    """Entry point of the installed command. A refusal is one line and exit status 2, also after a multirun."""
    full_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    overrides = [item for item in sys.argv[1:] if "=" in item]
    failures: list[str] = []
    on_cluster = is_sweep(sys.argv[1:]) and not is_local(overrides)

    def report(error: Exception) -> None:
        of_disk = isinstance(error, OSError) and not isinstance(error, HydraException)
        if full_traceback or (of_disk and not disk_error_message(error)):
            raise error
        failures.append(explain(error, overrides))
        print(f"vrx: {failures[-1]}", file=sys.stderr)

    def run_job(composed: DictConfig) -> None:
        try:
            run = to_run(composed)
            on_all_nodes(resolve_name("job", run.job.name, key="job"), run)
        except REFUSALS as error:
            if on_cluster:
                raise  # there, Hydra brings it back from the job
            report(error)

    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    try:
        for message in filter(None, map(rename_error, overrides)):
            raise UserError(message)
        if is_sweep(sys.argv[1:]) and not on_cluster:
            with composing(CONF):
                resolve_name("job", "sweep")(overrides, report, REFUSALS)
        else:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors come to us instead of Hydra's several lines
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(run_job)()
    except REFUSALS as error:
        report(error)
    except AssertionError as error:  # OmegaConf's, for a key below one that is null
        if not str(error).startswith("Unexpected type for root"):
            raise
        override = next((item for item in overrides if item.lstrip("+~").startswith("world.")), overrides)
        report(UserError(f"{override}: world is null; valid where the model brings its own world, as model=tiny does"))
    except KeyboardInterrupt:
        print("vrx: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    if failures:
        sys.exit(2)


if __name__ == "__main__":
    main()
