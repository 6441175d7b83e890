"""The nodes of a run meet at node 0, work for it alone, and are never left waiting."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.nodes import HELLO, Meeting, succeed

from vrx.config.errors import RunFailed, UserError
from vrx.launch import multi_node
from vrx.launch.multi_node import OtherNodes
from vrx.launch.node_connection import MAX_LINE_BYTES, Connection, token_path


@pytest.fixture
def meeting(tmp_path: Path) -> Meeting:
    return Meeting(tmp_path / "outputs")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_node, "TIMEOUT_SECONDS", 1.0)


def one_stage(run_dir: Path, expected: str | None) -> Callable[[OtherNodes], None]:
    """A job of one stage, at whose end the other nodes are in the expected state."""

    def job(other_nodes: OtherNodes) -> None:
        other_nodes.start_stage("train", run_dir)
        assert other_nodes.wait() == expected

    return job


# ---- working together


def test_node_1_runs_every_stage_of_node_0_and_ends_with_it(meeting: Meeting):
    run_dir, calls = meeting.output_root / "run", []

    def work(stage: str, run_dir: Path, port: int, connection: Connection) -> int:
        calls.append((stage, run_dir, port))
        return 0

    def job(other_nodes: OtherNodes) -> None:
        for stage in ("train", "generate"):
            port = other_nodes.start_stage(stage, run_dir)
            assert other_nodes.wait() is None
            assert calls[-1] == (stage, run_dir, port)

    meeting.run(job, work=work)
    assert meeting.errors == []
    assert len(calls) == 2


def test_a_node_whose_workers_fail_is_named(meeting: Meeting):
    expected = "node 1 ended with status 3; see its own output"
    meeting.run(one_stage(meeting.output_root / "run", expected), work=lambda *arguments: 3)


def test_a_node_that_fails_is_missed(meeting: Meeting):
    def fail(*arguments: object) -> int:
        raise ArithmeticError

    meeting.run(one_stage(meeting.output_root / "run", "node 1 is gone; run the same command to resume"), work=fail)
    assert isinstance(meeting.errors[0], ArithmeticError)


def test_node_1_ends_when_node_0_fails(meeting: Meeting):
    def job(other_nodes: OtherNodes) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        meeting.run(job)
    assert str(meeting.errors[0]) == "node 0 failed"


# ---- who may join


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"node": 0}, "runtime.node_rank=0: is taken"),
        ({"processes": 2}, "2 processes on this node, 1 on node 0"),
        ({"command": "another"}, "not the command of node 0"),
    ],
)
def test_a_node_that_does_not_fit_is_refused(
    meeting: Meeting, impatient: None, difference: dict[str, int | str], message: str
):
    with pytest.raises(RunFailed, match="1 of 2 nodes came"):
        meeting.run(hello=dataclasses.replace(HELLO, **difference))  # type: ignore[arg-type]
    assert str(meeting.errors[0]).startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"node": 1, "processes": 1, "command": "digest"}\n', "a line without the run's token"),
        (b"\xff\x00\n", "a line without the run's token"),
        (b"x" * (MAX_LINE_BYTES + 1), "a line of more than 64 KiB"),
    ],
)
def test_a_stranger_is_turned_away_and_the_run_goes_on(meeting: Meeting, line: bytes, message: str):
    def connect_as_stranger() -> None:
        with socket.create_connection((meeting.node.host, meeting.node.port)) as stranger:
            stranger.sendall(line)
            stranger.settimeout(60)
            assert stranger.recv(1) == b""  # closed

    meeting.run(one_stage(meeting.output_root / "run", None), before=connect_as_stranger)
    assert meeting.errors == []
    assert meeting.log[1:] == [f"closed a connection from 127.0.0.1, which sent {message}"]


def test_a_stranger_that_says_nothing_is_ignored(meeting: Meeting):
    address = meeting.node.host, meeting.node.port
    job = one_stage(meeting.output_root / "run", None)
    meeting.run(job, before=lambda: socket.create_connection(address).close())
    assert meeting.errors == []
    assert len(meeting.log) == 1


# ---- the token


def test_the_token_is_private_and_removed_at_the_end(meeting: Meeting):
    path = token_path(meeting.output_root, meeting.node.host, meeting.node.port)

    def job(other_nodes: OtherNodes) -> None:
        assert path.stat().st_mode & 0o777 == 0o600

    meeting.run(job)
    assert list(meeting.output_root.iterdir()) == []


def test_the_token_of_a_killed_run_is_replaced(meeting: Meeting):
    path = token_path(meeting.output_root, meeting.node.host, meeting.node.port)
    path.parent.mkdir()
    path.write_text("old")
    meeting.run(one_stage(meeting.output_root / "run", None))
    assert meeting.errors == []


def test_a_busy_port_is_one_line_and_leaves_the_token_of_its_run(meeting: Meeting):
    path = token_path(meeting.output_root, meeting.node.host, meeting.node.port)
    path.parent.mkdir()
    path.write_text("of another run")
    own = dataclasses.replace(HELLO, node=0)
    gathering = multi_node.gather_nodes(meeting.node, own, output_root=meeting.output_root, log=meeting.log.append)
    message = f"^runtime.rendezvous={meeting.node.address}: node 0 cannot listen there"
    with (
        socket.create_server((meeting.node.host, meeting.node.port)),
        pytest.raises(UserError, match=message),
        gathering,
    ):
        pass
    assert path.read_text() == "of another run"


def join_a_server_without_run(meeting: Meeting) -> str:
    """The error of a node that connects to a server which is not node 0 of its run."""
    with socket.create_server((meeting.node.host, meeting.node.port)), pytest.raises(RunFailed) as caught:
        multi_node.join_node_0(
            dataclasses.replace(meeting.node, rank=1),
            HELLO,
            output_root=meeting.output_root,
            job_run=None,
            log=meeting.log.append,
            work=succeed,
        )
    return str(caught.value)


def test_a_node_waits_for_the_token_only_until_the_timeout(meeting: Meeting, impatient: None):
    path = token_path(meeting.output_root, meeting.node.host, meeting.node.port)
    expected = f"no token of node 0: {path}: No such file or directory; runtime.output_root must be the same"
    assert join_a_server_without_run(meeting).startswith(expected)
    assert len(meeting.log) == 1
    assert meeting.log[0].startswith(f"waiting, {expected}")


def test_a_node_joins_once_the_token_appears(meeting: Meeting):
    """As on a shared file system that shows a new file late."""
    path = token_path(meeting.output_root, meeting.node.host, meeting.node.port)
    hidden, lines = path.with_name("hidden"), []

    def hide() -> None:
        path.rename(hidden)

    def show(line: str) -> None:
        lines.append(line)
        hidden.rename(path)

    meeting.joiner_log = show
    meeting.run(one_stage(meeting.output_root / "run", None), before=hide)
    assert meeting.errors == []
    assert len(lines) == 1
    assert lines[0].startswith("waiting, no token of node 0")


def test_a_node_does_not_wait_forever_for_a_server_that_is_not_node_0(meeting: Meeting, impatient: None):
    path = token_path(meeting.output_root, meeting.node.host, meeting.node.port)
    path.parent.mkdir()
    path.write_text("token")
    expected = f"runtime.rendezvous={meeting.node.address}: closed the connection or does not know the token {path}"
    assert join_a_server_without_run(meeting) == expected


# ---- run directories


@pytest.mark.parametrize("run_dir", ["elsewhere", "outputs/../elsewhere", "outputs-2/run"])
def test_workers_are_refused_for_a_run_directory_outside_the_own_output_root(
    meeting: Meeting, tmp_path: Path, run_dir: str
):
    expected = "node 1 ended with status 2; see its own output"
    meeting.run(one_stage(tmp_path / run_dir, expected), work=lambda *arguments: pytest.fail("workers started"))
    assert isinstance(meeting.errors[0], UserError)
    message = f"node 0 asked for workers in {tmp_path}/{run_dir}, which is not below it"
    assert str(meeting.errors[0]) == f"runtime.output_root={tmp_path}/outputs: {message}"


def test_workers_start_in_the_finished_run_that_the_own_command_names(meeting: Meeting, tmp_path: Path):
    meeting.job_run = tmp_path / "elsewhere"
    meeting.run(one_stage(tmp_path / "elsewhere", None))
    assert meeting.errors == []
