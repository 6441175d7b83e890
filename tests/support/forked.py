"""Commands of vrx whose processes are forked from one that has imported everything: the same code without the seconds
that each process takes to import torch.

`python -m support.forked <socket> <module>…` is that process: it imports the modules and forks a process for every
command that it is asked to run. `Commands.interpreter` is what a driver takes for the interpreter, so that its workers
are forked as well.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

from vrx.launch.ranks import PARENT, die_with_parent

INTERPRETER = "VRX_TEST_INTERPRETER"  # in the environment of a forked process: what it takes for the interpreter
DRIVERS = ("vrx.main", "vrx.jobs.sweep.child")
JOBS = ("finetune", "pretrain", "evaluate", "score", "prune", "revert", "check", "ask", "compare")
LIBRARIES = (  # that are imported only when they are used
    "datasets",
    "deepspeed",
    "PIL.PngImagePlugin",
    "torch.distributed.run",
    "torch.fx.experimental.symbolic_shapes",
    *(f"transformers.models.{name}.modeling_{name}" for name in ("clip", "llama", "llava")),
)
TORCHRUN = "vrx.launch.workers"
WORKERS = ("vrx.launch.worker", TORCHRUN, "vrx.models.native_counts")
SCRIPT = """#!{python} -IS
import json, os, socket, sys
arguments, sockets = sys.argv[1:], {sockets}
if arguments[:1] == ["-u"]:  # torchrun's
    del arguments[0]
if arguments[:1] != ["-m"] or arguments[1] not in sockets:
    os.execv({python!r}, [{python!r}, *arguments])
asked = {{"arguments": arguments[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sockets[arguments[1]])
    socket.send_fds(connection, [json.dumps(asked).encode() + b"\\n"], [0, 1, 2])
    status = int(connection.recv(16))
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


class Commands:
    """Runs commands; a context manager whose end ends the processes that it forks from."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        """folder: a new folder for sockets; environment: of the processes that it forks from."""
        folder.mkdir(parents=True)
        self.interpreter = folder / "python"
        drivers = [f"vrx.jobs.{job}.driver" for job in (*JOBS, "report")]
        workers = [f"vrx.jobs.{job}.worker" for job in JOBS]
        kinds = {"drivers": (*DRIVERS, *drivers), "workers": (*WORKERS, *workers, *LIBRARIES)}
        sockets = {name: str(folder / "drivers") for name in DRIVERS} | {
            name: str(folder / "workers") for name in WORKERS
        }
        self.interpreter.write_text(SCRIPT.format(python=sys.executable, sockets=sockets))
        self.interpreter.chmod(0o755)
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [environment.get("PYTHONPATH")])])
        self.environment = {**environment, "PYTHONPATH": path, INTERPRETER: str(self.interpreter)}
        self._servers = [
            subprocess.Popen(
                [sys.executable, "-m", "support.forked", str(folder / kind), *modules],
                env={"DS_ACCELERATOR": "cpu", **self.environment},  # which a driver tells its workers without a GPU
                start_new_session=True,
            )
            for kind, modules in kinds.items()
        ]
        for kind, server in zip(kinds, self._servers, strict=True):
            while not (folder / kind).exists():
                assert server.poll() is None, f"cannot import what {kind} need"
                time.sleep(0.05)

    def run(
        self, command: Sequence[str], folder: Path, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that begins with an interpreter and `-m`, in a folder, and wait for it.

        environment: by default that of the processes that it is forked from. What libraries read in it when they are
            imported, and `sitecustomize`, has no effect.
        """
        return subprocess.run(
            [str(self.interpreter), *command[1:]],
            cwd=folder,
            env=environment or self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def __enter__(self) -> Commands:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        for server in self._servers:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@functools.cache
def _shared() -> Commands:
    return Commands(Path(tempfile.mkdtemp(prefix="vrx-commands-")) / "commands", {**os.environ, "OMP_NUM_THREADS": "1"})


def forked_command(command: Sequence[str]) -> list[str]:
    """The command that forks this command, which begins with an interpreter and `-m`, as `run_forked` does."""
    return [str(_shared().interpreter), *command[1:]]


def run_forked(command: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command, see `Commands.run`, whose imports all tests of this process share, until `end_shared`."""
    return _shared().run(command, folder, environment)


def end_shared() -> None:
    """End the processes that `run_forked` has forked commands from, if it has."""
    if _shared.cache_info().currsize:
        commands = _shared()
        commands.end()
        shutil.rmtree(commands.interpreter.parents[1])
        _shared.cache_clear()


def serve(path: str, modules: Sequence[str]) -> list[str]:
    """Import modules and fork a process for every command that comes; returns, in such a process, its arguments."""
    die_with_parent()
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a forked process would write to, and so copy, all that was imported
    with socket.socket(socket.AF_UNIX) as listener:
        signal.signal(signal.SIGCHLD, _reap)
        listener.bind(f"{path}.new")
        listener.listen()
        Path(f"{path}.new").rename(path)
        while True:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    return _forked(connection)


def _reap(number: int, frame: FrameType | None) -> None:
    """Wait for processes that have ended, so that their CPU time counts as that of the tests."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _forked(connection: socket.socket) -> list[str]:
    """In a process that waits for one command: start it; returns, in the process of the command, its arguments."""
    text, files, *_ = socket.recv_fds(connection, 1 << 20, 3)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 20)
    if command := os.fork():
        _wait(connection, command)
    asked, interpreter = json.loads(text), os.environ[INTERPRETER]
    for number, (stream, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        os.dup2(files[number], number)
        os.close(files[number])
        setattr(sys, stream, os.fdopen(number, mode, buffering=1, encoding="utf-8", closefd=False))
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[:1] = [asked["folder"], *filter(None, asked["environment"].get("PYTHONPATH", "").split(os.pathsep))]
    if PARENT in os.environ:  # the driver waits for the process that waits for this one
        os.environ[PARENT] = str(os.getppid())
    sys.executable = interpreter
    return asked["arguments"]


def _wait(connection: socket.socket, command: int) -> NoReturn:
    ended = os.pidfd_open(command)
    if ended not in select.select([ended, connection], [], [])[0]:  # the process that asked for the command has ended
        os.kill(command, signal.SIGKILL)
    _, status = os.waitpid(command, 0)
    with suppress(BrokenPipeError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


if __name__ == "__main__":
    sys.argv = serve(sys.argv[1], sys.argv[2:])
    module = sys.modules[sys.argv[0]]
    module.torchrun() if sys.argv[0] == TORCHRUN else module.main()
