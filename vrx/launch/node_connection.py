"""Authenticated messages between the nodes of a run: one line of JSON each, signed with a token that the nodes share.

Node 0 writes the token to a file in the shared output root, which only the user can read. Each line is
`<HMAC-SHA256 in hex> <JSON object>`; the HMAC covers the direction, the line's number on its connection and the JSON,
so lines can be neither forged nor replayed. They are not encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vrx.runs.files import write_atomic

MAX_LINE_BYTES = 64 * 1024
SEND_SECONDS = 60.0


class InvalidLine(Exception):
    """A received line is too long or is not signed with the run's token; the message says which."""


def token_path(output_root: Path, host: str, port: int) -> Path:
    """The file of the token of the run whose node 0 listens at host:port."""
    return output_root / f".node-token-{re.sub(r'[^A-Za-z0-9.-]', '_', host)}-{port}"


@contextmanager
def new_token(path: Path) -> Iterator[bytes]:
    """Write a random token to a file with mode 600, and remove the file at the end."""
    token = secrets.token_hex(32).encode()
    try:
        write_atomic(path, token, mode=0o600)  # in place of one that a killed run left
        yield token
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


class Connection:
    """A connection between node 0 and another node that carries signed messages.

    is_node_0: whether this end is node 0.
    """

    def __init__(self, connection: socket.socket, token: bytes, *, is_node_0: bool) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # notices a machine that lost its power
        self._socket, self._token, self._is_node_0 = connection, token, is_node_0
        self._received = b""  # bytes that no message has used yet
        self._num_sent = self._num_received = 0

    def send(self, **message: Any) -> None:
        """Send a message; a closed connection is noticed only by `receive`."""
        content = json.dumps(message).encode()
        signature = self._signature(content, self._num_sent, from_node_0=self._is_node_0)
        self._num_sent += 1
        self._socket.settimeout(SEND_SECONDS)
        with suppress(OSError):
            self._socket.sendall(signature + b" " + content + b"\n")

    def is_readable(self) -> bool:
        """Whether a message has arrived or the other end has closed the connection."""
        return b"\n" in self._received or bool(select.select([self._socket], [], [], 0)[0])

    def receive(self, *, timeout: float | None) -> dict[str, Any] | None:
        """The next message; None if the connection is closed or nothing comes in time.

        timeout: seconds, None for no limit. Raises `InvalidLine`.
        """
        line = self._read_line(None if timeout is None else time.monotonic() + timeout)
        if line is None:
            return None
        signature, _, content = line.partition(b" ")
        expected = self._signature(content, self._num_received, from_node_0=not self._is_node_0)
        if not hmac.compare_digest(signature, expected):
            raise InvalidLine("a line without the run's token")
        self._num_received += 1
        return json.loads(content)

    def close(self) -> None:
        """Close the connection; the other end's `receive` returns None."""
        self._socket.close()

    def _read_line(self, deadline: float | None) -> bytes | None:
        while b"\n" not in self._received and len(self._received) <= MAX_LINE_BYTES:
            try:
                self._socket.settimeout(None if deadline is None else max(0.0, deadline - time.monotonic()))
                part = self._socket.recv(MAX_LINE_BYTES)
            except OSError:
                return None
            if not part:
                return None
            self._received += part
        line, _, rest = self._received.partition(b"\n")
        if len(line) > MAX_LINE_BYTES:
            raise InvalidLine(f"a line of more than {MAX_LINE_BYTES // 1024} KiB")
        self._received = rest
        return line

    def _signature(self, content: bytes, number: int, *, from_node_0: bool) -> bytes:
        signed = b"%d %d %b" % (from_node_0, number, content)
        return hmac.new(self._token, signed, hashlib.sha256).hexdigest().encode()
