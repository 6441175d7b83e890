"""Signed messages: what arrives, and which lines are refused."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vrx.launch.node_connection import MAX_LINE_BYTES, Connection, InvalidLine, new_token, token_path

TOKEN = b"token"


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection; the first is node 0's."""
    first, second = socket.socketpair()
    with first, second:
        yield first, second


def signed_line(sockets: tuple[socket.socket, socket.socket], *, is_node_0: bool, **message: int) -> bytes:
    """The line that one end sends as its first."""
    Connection(sockets[0], TOKEN, is_node_0=is_node_0).send(**message)
    return sockets[1].recv(MAX_LINE_BYTES)


def test_messages_that_arrive_together_are_received_one_by_one(sockets: tuple[socket.socket, socket.socket]):
    node_0, other = (Connection(end, TOKEN, is_node_0=end is sockets[0]) for end in sockets)
    assert not other.is_readable()
    node_0.send(number=1)
    node_0.send(number=2)
    assert other.receive(timeout=60) == {"number": 1}
    assert other.is_readable()
    assert other.receive(timeout=60) == {"number": 2}
    assert not other.is_readable()


def test_a_message_is_received_in_both_directions(sockets: tuple[socket.socket, socket.socket]):
    node_0, other = (Connection(end, TOKEN, is_node_0=end is sockets[0]) for end in sockets)
    other.send(number=1)
    assert node_0.receive(timeout=60) == {"number": 1}
    node_0.send(number=2)
    assert other.receive(timeout=60) == {"number": 2}


def test_a_closed_connection_is_readable_and_yields_none(sockets: tuple[socket.socket, socket.socket]):
    other = Connection(sockets[1], TOKEN, is_node_0=False)
    sockets[0].close()
    assert other.is_readable()
    assert other.receive(timeout=60) is None


def test_a_line_that_does_not_end_in_time_yields_none(sockets: tuple[socket.socket, socket.socket]):
    sockets[0].sendall(b"no end")
    assert Connection(sockets[1], TOKEN, is_node_0=False).receive(timeout=0.01) is None


@pytest.mark.parametrize("token", [b"another", b""])
def test_a_line_signed_with_another_token_is_refused(sockets: tuple[socket.socket, socket.socket], token: bytes):
    Connection(sockets[0], token, is_node_0=True).send(number=1)
    with pytest.raises(InvalidLine, match="without the run's token"):
        Connection(sockets[1], TOKEN, is_node_0=False).receive(timeout=60)


def test_a_changed_message_is_refused(sockets: tuple[socket.socket, socket.socket]):
    line = signed_line(sockets, is_node_0=True, number=1)
    sockets[0].sendall(line.replace(b'"number": 1', b'"number": 2'))
    with pytest.raises(InvalidLine):
        Connection(sockets[1], TOKEN, is_node_0=False).receive(timeout=60)


def test_a_replayed_line_is_refused(sockets: tuple[socket.socket, socket.socket]):
    line = signed_line(sockets, is_node_0=True, number=1)
    sockets[0].sendall(line + line)
    other = Connection(sockets[1], TOKEN, is_node_0=False)
    assert other.receive(timeout=60) == {"number": 1}
    with pytest.raises(InvalidLine):
        other.receive(timeout=60)


def test_a_line_sent_back_is_refused(sockets: tuple[socket.socket, socket.socket]):
    sockets[0].sendall(signed_line(sockets, is_node_0=False, number=1))
    with pytest.raises(InvalidLine):
        Connection(sockets[1], TOKEN, is_node_0=False).receive(timeout=60)


def test_a_line_that_is_too_long_is_refused_before_its_end(sockets: tuple[socket.socket, socket.socket]):
    sockets[0].sendall(b"x" * (MAX_LINE_BYTES + 1))
    with pytest.raises(InvalidLine, match="more than 64 KiB"):
        Connection(sockets[1], TOKEN, is_node_0=False).receive(timeout=60)


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from vrx.launch.node_connection import new_token

Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
with new_token(Path(sys.argv[1])):
    pass
"""


def test_a_run_deletes_the_partial_token_that_a_killed_one_left(tmp_path: Path):
    path = token_path(tmp_path, "127.0.0.1", 29500)
    subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, path], check=False)
    (partial,) = tmp_path.iterdir()
    assert partial.stat().st_mode & 0o777 == 0o600
    with new_token(path) as token:
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == token
        assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []
