"""Weights & Biases: a run there for each record here. The local files are the truth; this may be absent or offline.

Everything happens in the driver, beside the training processes, and nothing here raises: a dashboard cannot stop a run.
"""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vrx.checks import select
from vrx.config import RunConfig, WandbConfig
from vrx.records import read_json, read_log, write_json

logger = logging.getLogger(__name__)


def resolve_mode(config: WandbConfig) -> str:
    """`auto` is online where an account is configured and offline elsewhere; no question is asked."""
    if config.mode != "auto":
        return config.mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("//")[2].partition("/")[0]
    try:
        return "online" if netrc.netrc().authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"


class Follower:
    """The W&B run of one record; quiet, and without effect once anything in it has failed."""

    def __init__(self, run: RunConfig, run_dir: Path, run_id: str) -> None:
        self.run, self.run_dir, self.run_id = run, run_dir, run_id
        self.place = run_dir / "wandb.json"
        self.remote: Any = None
        self.seen = 0  # bytes of the log

    def start(self) -> None:
        import wandb

        run, config = self.run, self.run.wandb
        layers = select(run)
        flat = {
            "model": run.model.name,
            "selector": run.selector.name,
            "num_layers": len(layers),
            "layers": list(layers),
            "data_fraction": run.data_fraction.fraction,
            "seed": run.seed,
            "recipe": run.recipe,
            "lr": run.train.lr,
            "global_batch_size": run.train.global_batch_size,
            "lora_r": run.lora.r,
            "zero_stage": run.engine.zero_stage,
            "run_dir": str(self.run_dir),
        }
        self.remote = wandb.init(
            project=config.project,
            entity=config.entity,
            group=config.group or run.sweep.name or run.job.name,
            job_type=run.job.name,
            tags=[run.model.name, run.selector.name, *config.tags],
            name=self.run_dir.name,
            id=self.run_id,
            resume="allow",
            mode=resolve_mode(config),  # type: ignore[arg-type]
            dir=str(self.run_dir),
            config=flat,
            settings=wandb.Settings(silent=True, console="off", init_timeout=30, x_disable_stats=True),
        )
        self.remote.define_metric("train/step")
        self.remote.define_metric("train/*", step_metric="train/step")

    def follow(self) -> None:
        """Send the training curve's new rows; rows sent by an earlier command are not sent again."""
        log = self.run_dir / "train.jsonl"
        size = log.stat().st_size if log.is_file() else 0
        if self.remote is None or size == self.seen:
            return
        self.seen = size
        sent = read_json(self.place)["last_step"] if self.place.is_file() else -1
        latest = sent
        for row in read_log(log):
            if row["step"] > latest:
                speed = row["tokens"] / row["seconds"]
                told = {"train/step": row["step"], "train/loss": row["loss"], "train/lr": row["lr"]}
                self.remote.log({**told, "train/tokens_per_second": speed}, step=row["step"])
                latest = row["step"]
        if latest > sent:
            write_json(self.place, {"id": self.run_id, "last_step": latest})

    def finish(self, record: dict[str, Any]) -> None:
        summary = {f"eval/{name}": entry["value"] for name, entry in record["scores"].items()}
        summary |= {f"eval_stderr/{name}": entry["stderr"] for name, entry in record["scores"].items()}
        summary |= {
            f"cost/{name}": value for name, value in (record.get("train") or {}).items() if name != "bad_images"
        }
        self.remote.summary.update(summary)


class _Quiet:
    """A follower whose calls never raise; the first failure is told in one line and ends it."""

    def __init__(self, follower: Follower) -> None:
        self._follower: Follower | None = follower

    def call(self, name: str, *arguments: Any) -> None:
        if self._follower is None:
            return
        try:
            getattr(self._follower, name)(*arguments)
        except Exception as error:
            self._follower = None
            logger.warning("W&B stopped (%s); the run goes on, its files are whole", error)

    def start(self) -> None:
        self.call("start")

    def follow(self) -> None:
        self.call("follow")

    def finish(self, record: dict[str, Any]) -> None:
        self.call("follow")
        self.call("finish", record)


@contextmanager
def following(run: RunConfig, run_dir: Path, run_id: str) -> Iterator[_Quiet]:
    """The W&B run of a record, open while the block runs; a stand-in without effect where W&B is disabled."""
    follower = Follower(run, run_dir, run_id)
    quiet = _Quiet(follower)
    if run.wandb.mode == "disabled":
        quiet._follower = None
    quiet.start()
    code = 1
    try:
        yield quiet
        code = 0
    finally:
        if follower.remote is not None:
            try:
                follower.remote.finish(exit_code=code)
            except Exception as error:
                logger.warning("W&B did not finish (%s)", error)
