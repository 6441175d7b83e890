"""One command works on a run; what several runs need is made by one of them while the others wait."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes import started

from vrx.config.errors import RunFailed
from vrx.runs.locks import exclusive_lock, is_locked, shared_resource_lock

HOLD = """
import sys
from pathlib import Path
from vrx.runs.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a run directory until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(run_dir)]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_run_that_another_process_works_on_is_refused(tmp_path: Path):
    with holder(tmp_path / "run"):
        assert is_locked(tmp_path / "run")
        with pytest.raises(RunFailed, match="another vrx works on this run"), exclusive_lock(tmp_path / "run"):
            pass


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_holds_no_lock(tmp_path: Path, signal_number: int):
    with holder(tmp_path) as process:
        os.kill(process.pid, signal_number)
        process.wait()
        assert not is_locked(tmp_path)
        with exclusive_lock(tmp_path):
            assert is_locked(tmp_path)


def test_a_lock_is_free_again_after_its_block(tmp_path: Path):
    assert not is_locked(tmp_path / "run"), "there is no such directory yet"
    for _ in range(2):
        with exclusive_lock(tmp_path / "run"):
            pass
    assert not is_locked(tmp_path / "run")


def test_probes_do_not_refuse_a_run_or_each_other(tmp_path: Path):
    (tmp_path / ".lock").touch()
    stop, seen = threading.Event(), []

    def probe() -> None:
        while not stop.is_set():
            seen.append(is_locked(tmp_path))

    threads = [threading.Thread(target=probe) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with exclusive_lock(tmp_path):
            pass
    stop.set()
    for thread in threads:
        thread.join()
    assert seen


def test_a_shared_resource_is_made_by_one_process_at_a_time(tmp_path: Path):
    inside, most = [], []

    def make() -> None:
        with shared_resource_lock(tmp_path / "data" / "tiny"):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_without_locks_gets_a_marker_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with exclusive_lock(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(RunFailed, match="another vrx works on this run"), exclusive_lock(tmp_path):
            pass
    with exclusive_lock(tmp_path):
        pass
