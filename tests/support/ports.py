"""TCP ports for tests that listen."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of this machine at which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
