"""From what was typed to what Hydra understands: a first word names the job, a number an option."""

from __future__ import annotations

from vrx.config.errors import UserError
from vrx.config.renames import rename_error

VALUE_FLAGS = ("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "-p", "--package", "-c", "--cfg")
VALUE_FLAGS += ("-i", "--info", "--experimental-rerun")


def read_arguments(arguments: list[str]) -> list[str]:
    """The arguments as Hydra takes them, flags first; `UserError` for a renamed key."""
    flags, overrides = split(arguments)
    for override in overrides:
        if message := rename_error(override):
            raise UserError(message)
    return [*flags, *overrides]


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    is_value = False
    for argument in arguments:
        (flags if is_value or argument.startswith("-") else overrides).append(argument)
        is_value = argument in VALUE_FLAGS
    return flags, overrides
