"""The run as a file: what a worker starts from, and what is read back later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf._utils import get_omega_conf_dumper
from omegaconf.errors import OmegaConfBaseException

from vrx.config.asked_as import with_own_questions
from vrx.config.errors import UserError
from vrx.config.migrations import SCHEMA_VERSION, VERSION_KEY, migrate_config
from vrx.config.schema import ModelConfig, RunConfig
from vrx.config.shuffled_images import with_shuffled_images
from vrx.config.validate import validate

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# A number may have more digits than Python reads, which is a ValueError; so is text that is not UTF-8.
YAML_ERRORS = (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError, TypeError)


def to_run(composed: Any, *, answered_by: ModelConfig | None = None) -> RunConfig:
    """The typed, checked run of a composed configuration. `UserError` where it cannot work.

    answered_by: the model of a finished run that is asked the benchmarks; by default the configuration's.
    """
    run = _typed(OmegaConf.to_container(composed))
    validate(run)
    return with_shuffled_images(with_own_questions(run, model=answered_by))


def freeze(run: RunConfig) -> str:
    """The run as YAML with the schema's version, every value resolved."""
    values = OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)
    # as OmegaConf.to_yaml, but in ASCII: its form does not bring back line separators such as U+0085
    text = yaml.dump(values, Dumper=get_omega_conf_dumper(), default_flow_style=False, sort_keys=False)
    return f"{VERSION_KEY}: {SCHEMA_VERSION}\n{text}"


def thaw(text: str, *, source: str = "frozen run") -> RunConfig:
    """A frozen run of this version or an older one.

    Types are checked, values are not: a finished run is read whatever may run today. source: names the file in errors.
    """
    try:
        refuse_aliases(text)
        config = OmegaConf.to_container(OmegaConf.create(text))
    except YAML_ERRORS as error:
        raise UserError(f"{source}: not valid YAML: {_first_line(error)}") from None
    if not isinstance(config, dict):
        raise UserError(f"{source}: not a frozen run")
    try:
        return _typed(migrate_config({str(key): value for key, value in config.items()}, source=source))
    except (OmegaConfBaseException, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise UserError(f"{source}: not a frozen run: {_first_line(error)}") from None


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file that vrx wrote; `UserError` names a file of another form."""
    try:
        text = path.read_text(encoding="utf-8")
        refuse_aliases(text)
        return yaml.load(text, LOADER)
    except YAML_ERRORS as error:
        raise UserError(f"{path}: not valid YAML: {_first_line(error)}") from None


def refuse_aliases(text: str) -> None:
    """Refuse YAML in which a part stands for another: ten lines of it can stand for gigabytes. vrx writes none."""
    if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, LOADER)):
        raise yaml.YAMLError("it has aliases, which no file of vrx has")


def load_frozen(path: Path) -> RunConfig:
    """Read a frozen run back; `UserError` names the file that is broken or of a newer version."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: {error}") from None
    return thaw(text, source=str(path))


def _typed(plain: Any) -> RunConfig:
    """The typed run of plain values; the merge refuses a key that the schema does not have."""
    run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), plain))
    assert isinstance(run, RunConfig)
    return run


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
