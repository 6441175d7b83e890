"""The run as a file: what a worker starts from, and what is read back later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf._utils import get_omega_conf_dumper
from omegaconf.errors import OmegaConfBaseException

from vrx.config.errors import UserError
from vrx.config.migrations import SCHEMA_VERSION, VERSION_KEY, migrate_config
from vrx.config.schema import RunConfig
from vrx.config.shuffled_images import with_shuffled_images
from vrx.config.validate import validate


def to_run(composed: Any) -> RunConfig:
    """The typed, checked run of a composed configuration. `UserError` where it cannot work."""
    run = _typed(OmegaConf.to_container(composed))
    validate(run)
    return with_shuffled_images(run)


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
        config = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{source}: not valid YAML: {_first_line(error)}") from None
    if not isinstance(config, dict):
        raise UserError(f"{source}: not a frozen run")
    config = migrate_config({str(key): value for key, value in config.items()}, source=source)
    try:
        return _typed(config)
    except OmegaConfBaseException as error:
        raise UserError(f"{source}: not a frozen run: {_first_line(error)}") from None


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
