"""The first message of a node to node 0, and whom node 0 refuses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Hello:
    """The first message of a node: its rank, its number of processes and the digest of its command."""

    node: int
    processes: int
    command: str


def refusal(joining: Hello, own: Hello, *, connected: Collection[int], num_nodes: int) -> str | None:
    """Why node 0 refuses a node; None if it fits."""
    if joining.node not in range(1, num_nodes) or joining.node in connected:
        return f"runtime.node_rank={joining.node}: is taken or not below runtime.num_nodes={num_nodes}"
    if joining.processes != own.processes:
        return f"{joining.processes} processes on this node, {own.processes} on node 0; they must be equal"
    if joining.command != own.command:
        return "not the command of node 0; only runtime.node_rank may differ"
    return None
