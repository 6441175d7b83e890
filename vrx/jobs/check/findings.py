"""Findings of the check, each printed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Finding:
    """One line of the check; `bad` means that a run would fail, `note` that it would not do all one may expect."""

    name: str
    message: str
    bad: bool = False
    note: bool = False

    def __str__(self) -> str:
        return f"{'BAD' if self.bad else 'note' if self.note else 'ok':<4} {self.name}: {self.message}"


@dataclass
class Findings:
    """Prints findings as they come; the runs of a sweep share most of them, so each is computed and printed once."""

    printed: dict[str, bool] = field(default_factory=dict)
    computed: dict[str, Any] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if str(finding) not in self.printed:
                self.printed[str(finding)] = finding.bad
                print(finding, flush=True)

    def once(self, function: Callable[[], Result], *key: object) -> Result:
        """The result of a function that depends on `key` only."""
        if repr(key) not in self.computed:
            self.computed[repr(key)] = function()
        return self.computed[repr(key)]

    @property
    def num_failed(self) -> int:
        return sum(self.printed.values())
