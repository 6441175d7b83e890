"""Opening runs on Weights & Biases: online, or offline where there is no account or no server."""

from __future__ import annotations

import logging
import netrc
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack

from vrx.config.schema import WandbConfig
from vrx.launch.logging import log
from vrx.runs.files import read_json, write_json
from vrx.runs.run_dir import RunDir

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)
RESPONSE_TIMEOUT, INIT_TIMEOUT, FINISH_TIMEOUT = 5, 30, 300  # seconds
Result = TypeVar("Result")


class RunOptions(TypedDict):
    """Options of `wandb.init` that differ between the runs of a job and the report."""

    id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, object]


def resolve_mode(config: WandbConfig) -> str:
    """online, offline or disabled: `auto` is online where an account is configured, else offline; never asks."""
    if config.mode != "auto":
        return config.mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = _server_url().partition("//")[2].partition("/")[0]
    try:
        return "online" if netrc.netrc().authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"


@dataclass
class WandbRunFile:
    """What a directory remembers of its W&B run."""

    path: Path
    id: str
    last_step: int = -1  # in the file: of the last command that ended; W&B takes no step that is not beyond it

    def save(self) -> None:
        """Write it to disk."""
        write_json(self.path, {"id": self.id, "last_step": self.last_step})


def read_run_file(folder: Path, prefix: str) -> WandbRunFile:
    """The W&B run of a directory; a new id where there is none yet.

    The id is the prefix and a random part, so that two people who make the same run in one W&B project do not write
    into one W&B run. Runs of earlier versions, whose id is the prefix alone, keep theirs.
    """
    path = RunDir(folder).wandb
    if path.is_file():
        content = read_json(path)
        return WandbRunFile(path, content["id"], content["last_step"])
    if (folder / "wandb").is_dir():  # sent by a version that wrote the file only with the first step
        return WandbRunFile(path, prefix)
    return WandbRunFile(path, f"{prefix}-{secrets.token_hex(4)}")


@contextmanager
def wandb_environment(folder: Path) -> Iterator[None]:
    """Let wandb write below `folder` and print nothing, while the block runs; what the user has set stays.

    wandb reads these three from the environment only, there are no settings for them. They are restored, because one
    process may write several runs.
    """
    ours = {
        "WANDB_SILENT": "true",
        "WANDB_DATA_DIR": str(folder / "wandb"),  # files of offline runs are staged here
        "WANDB_ERROR_REPORTING": "false",  # else the end of a run waits for wandb's own reports, too
    }
    added = [name for name in ours if name not in os.environ]
    os.environ.update({name: ours[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def open_run(account: WandbConfig, folder: Path, **options: Unpack[RunOptions]) -> wandb.Run:
    """A W&B run with its files below a folder; offline where the server does not answer or refuses the run.

    Inside `wandb_environment` only.
    """
    import wandb

    mode = resolve_mode(account)
    settings = wandb.Settings(silent=True, console="off", finish_timeout=FINISH_TIMEOUT, x_disable_stats=True)
    project, entity = account.project, account.entity
    problem = "does not answer" if mode == "online" and not server_answers(_server_url()) else None
    if mode == "online" and problem is None:
        try:
            impatient = settings.model_copy(update={"init_timeout": INIT_TIMEOUT})
            return wandb.init(
                mode="online",
                settings=impatient,
                resume="allow",
                project=project,
                entity=entity,
                dir=str(folder),
                **options,
            )
        except Exception as error:
            wandb.teardown(exit_code=0)  # else the run's id stays taken by the run that failed
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            problem = f"refused the run ({reason})"
    if problem is not None:
        offline_runs = folder / "wandb" / "offline-run-*"
        log(f"W&B: {_server_url()} {problem}; logging offline, upload later with: wandb sync {offline_runs}")
        mode = "offline"
    return wandb.init(
        mode=mode,  # type: ignore[arg-type]
        settings=settings,
        resume="allow",
        project=project,
        entity=entity,
        dir=str(folder),
        **options,
    )


def server_answers(server: str) -> bool:
    """Whether a server responds at all where runs are sent, be it with a refusal."""
    request = urllib.request.Request(
        f"{server}/graphql", b'{"query": "{__typename}"}', {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=RESPONSE_TIMEOUT):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def without_raising(action: str, call: Callable[[], Result]) -> Result | None:
    """What a call returns; None with one line of warning where it fails."""
    try:
        return call()
    except Exception as error:
        logger.warning("W&B: could not %s (%s); local files are unaffected", action, error)
        return None


def _server_url() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
