"""One line for an error in a command: the key, the value, and what is valid."""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import is_dataclass
from typing import get_args, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from vrx.config.bounds import schema_fields
from vrx.config.errors import UserError, disk_error_message
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig

REFUSALS = (UserError, HydraException, OmegaConfBaseException, OSError, AssertionError)
OPTIONAL_SECTIONS = tuple(  # null in some runs
    name
    for name, hint in get_type_hints(RunConfig).items()
    if type(None) in get_args(hint) and any(map(is_dataclass, get_args(hint)))
)
TYPES = {"Integer": "a whole number", "Float": "a number, such as 2e-4", "Boolean": "true or false"}
NUMBER_AS_OPTION = "Config group override must be a string or a list"  # Hydra's ValueError for model=7, model=null
BELOW_NULL = "Unexpected type for root"  # OmegaConf's assertion, for a key below one that is null


def is_refusal(error: BaseException) -> bool:
    """Whether a user can correct this error; anything else is a bug and keeps its traceback.

    Of OSError only a full disk or a folder that cannot be written to counts.
    """
    if isinstance(error, AssertionError):
        return str(error).startswith(BELOW_NULL)
    if str(error).startswith(NUMBER_AS_OPTION):
        return True
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return True
    return isinstance(error, OSError) and disk_error_message(error) is not None


def explain(error: BaseException, overrides: list[str]) -> str:
    """One line for a refused command; `overrides` are what was typed."""
    if message := disk_error_message(error):
        return message
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if isinstance(error, AssertionError):
        return _below_null(overrides)
    if str(error).startswith(NUMBER_AS_OPTION):
        return _no_option_name(overrides)
    text = f"{error}\n{error.__cause__ or ''}"
    if several := re.match(r"Ambiguous value for argument '(.+)'", text):
        key, _, values = several.group(1).partition("=")
        return f"{key}={values}: several values are a sweep: vrx -m {key}={values}; a list is {key}=[{values}]"
    if option := re.search(r"Could not (?:find|load) '([\w./-]+)/([^/']+)'", text):
        return _no_such_option(*option.groups())
    if named := re.search(r"(?:Could not override|Error merging override) '?([^'\s=]+)", text):
        override = _typed(named.group(1), overrides)
        if "not in" in text or "Could not override" in text:
            return _no_such_key(override)
        reason = str(error.__cause__).splitlines()[0]
        wanted = re.search(r"could not be converted to (\w+)$", reason)
        return f"{override}: must be {TYPES.get(wanted[1], wanted[1])}" if wanted else f"{override}: {reason}"
    if key := re.search(r"Key '([^']+)' (?:is )?not in", text):
        return _no_such_key(_typed(getattr(error, "full_key", None) or key.group(1), overrides))
    if (reference := re.search(r"Interpolation key '([^']+)' not found", text)) and (
        typed := next((item for item in overrides if f"${{{reference[1]}}}" in item), None)
    ):
        return f"{typed}: ${{{reference[1]}}} refers to a key that there is not; a text with $ is '\\${{…}}'"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def schema_keys() -> list[str]:
    """Every dotted key of the schema; `*` stands for the names of a dictionary."""
    return [key for key, _, _ in schema_fields(RunConfig)]


def did_you_mean(name: str, valid: list[str], *, cutoff: float = 0.6) -> str:
    """`did you mean …? ` for the valid name that is closest, or nothing."""
    close = difflib.get_close_matches(name, valid, 1, cutoff=cutoff)
    return f"did you mean {close[0]}? " if close else ""


def unreadable(override: str) -> str:
    """The line for an override that Hydra cannot read, with the same value as a quoted text where that is one."""
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"[+\w./@-]+", key):
        return f"{override}: not key=value"
    text = value.replace("'", "\\'")
    quoted = f"{key}='{text}'"
    try:
        OverridesParser.create().parse_override(quoted)
    except OverrideParseException:
        return f"{override}: its value cannot be read; a list is [1,2], a text '…'"
    in_shell = shlex.quote(quoted) if re.search(r'["$`\\!]', quoted) else f'"{quoted}"'
    return f"{override}: its value cannot be read; if it is a text, quote it twice: {in_shell}"


def _typed(key: str, overrides: list[str]) -> str:
    """What was typed for a dotted key that an error names: for itself, for what is below it, or for what it is in."""
    key = key.lstrip("+~")
    typed = {item: item.lstrip("+~").partition("=")[0] for item in reversed(overrides)}
    for fits in (
        lambda name: name == key,
        lambda name: name.endswith(f".{key}"),
        lambda name: key.startswith(f"{name}."),
        lambda name: name.startswith(f"{key}."),
    ):
        for item, name in typed.items():
            if fits(name):
                return item
    return key


def _no_such_option(group: str, name: str) -> str:
    valid = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    if not valid:  # a group of Hydra's own
        return f"{group}={name}: no such option; see vrx --hydra-help"
    return f"{group}={name}: no such option; {did_you_mean(name, valid)}valid: {', '.join(valid)}"


def _no_option_name(overrides: list[str]) -> str:
    """A number, null or the like in place of an option's name: some groups take numbers, but none in a sweep file."""
    for override in overrides:
        group, _, value = override.lstrip("+~").partition("=")
        if group and (CONF / group).is_dir() and (value[:1].isdigit() or value.lower() in ("null", "true", "false")):
            return _no_such_option(group, value)
    return (
        "hydra.sweeper.params: a number is not the name of an option; in a sweep file write layer_count.k: 2,3 or "
        "layer_count: 2_layers,4_layers, and data_fraction.fraction: 0.1,0.25 or data_fraction: 10pct,25pct"
    )


def _no_such_key(override: str) -> str:
    name = override.lstrip("+~").partition("=")[0]
    known = schema_keys()
    siblings = [key for key in known if key.rpartition(".")[0] == name.rpartition(".")[0]]
    top = [key for key in known if "." not in key]
    same_field = [key for key in known if key.endswith(f".{name}") and key.split(".")[0] not in OPTIONAL_SECTIONS]
    outside = [key for key in known if not name.startswith(f"{key}.")]  # not the section that the key is in
    hint = f"did you mean {same_field[0]}? " if same_field else did_you_mean(name, outside, cutoff=0.5)
    return f"{override}: no such key; {hint}valid: {', '.join(siblings or top)}"


def _below_null(overrides: list[str]) -> str:
    """A key below a section that this run does not have: the options of another job, or the world of another model."""
    for override in overrides:
        section, dot, _ = override.lstrip("+~").partition("=")[0].partition(".")
        if dot and section in OPTIONAL_SECTIONS and section != "world":  # without a dot, it is the word of the job
            return f"{override}: an option of job {section}; run: vrx {section} {override}"
    override = next((item for item in overrides if item.lstrip("+~").startswith("world.")), " ".join(overrides))
    return f"{override}: world is null; valid where the model brings its own world, as model=tiny does"
