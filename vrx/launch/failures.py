"""How the workers of a stage ended, in words, and which of several failures is told."""

from __future__ import annotations

import signal

from vrx.launch.multi_node import OtherNodes
from vrx.launch.ranks import BUG, USER_ERROR

KILLERS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")  # signals that come from outside


def signal_name(status: int) -> str | None:
    """The signal that ended a process, by its exit status: -9 as Python gives it, 137 as a shell, 247 as a byte."""
    number = -status if status < 0 else status - 128 if 128 < status < 192 else 256 - status if status > 192 else 0
    try:
        return signal.Signals(number).name
    except ValueError:
        return None


def ended_text(status: int) -> str:
    """How a process ended, in words."""
    name = signal_name(status)
    return f"was killed by {name}" if name else f"ended with status {status}"


def first_cause(
    line: str, own_failure: str, status: int | None, other_nodes: OtherNodes | None, node_failure: str | None
) -> str | None:
    """What is told of a stage that failed; empty or None if it did not.

    A node that is gone comes first, because the workers of all other nodes fail without it. Then comes the line of the
    first worker that reported an error, on any node. Beside it are told the nodes whose workers ended with a status of
    no report, for instance by a signal: the worker that reported an error perhaps only missed theirs.
    """
    if other_nodes is None:
        return line or own_failure
    if other_nodes.lost or not (line or own_failure):
        return node_failure
    statuses = {0: status if line else None, **other_nodes.failed}
    killed = [rank for rank, status in statuses.items() if status not in (None, 0, USER_ERROR, BUG)]
    return "; ".join([line or own_failure, *(f"node {rank} {ended_text(statuses[rank] or 0)}" for rank in killed)])
