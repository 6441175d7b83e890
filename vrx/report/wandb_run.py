"""Weights & Biases: a run there for each record here. The local files are the truth; this may be absent or offline.

Everything happens in the driver, beside the training processes, and nothing here raises: a dashboard cannot stop a run.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import logging
import netrc
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from vrx.config.schema import RunConfig, WandbConfig
from vrx.launch.logging import log
from vrx.report.collect import Run
from vrx.report.prediction_samples import PredictionGallery, galleries
from vrx.runs.files import read_json, read_json_lines, write_json
from vrx.runs.layer_selection import select_layers
from vrx.runs.record import Record
from vrx.runs.run_dir import RunDir

logger = logging.getLogger(__name__)
PROBE, INIT, FINISH = 5, 30, 300  # seconds: for a server to answer at all, to take a run, to take what is left of it
NUM_WORST, NUM_RANDOM, SIDE = 16, 16, 224  # predictions of a benchmark; pixels of their pictures


def resolve_mode(config: WandbConfig) -> str:
    """`auto` is online where an account is configured and offline elsewhere; no question is asked."""
    if config.mode != "auto":
        return config.mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = _server().partition("//")[2].partition("/")[0]
    try:
        return "online" if netrc.netrc().authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def is_there(server: str) -> bool:
    """Whether a server says anything at all where runs are taken, be it a refusal."""
    asked = urllib.request.Request(
        f"{server}/graphql", b'{"query": "{__typename}"}', {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=PROBE):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def open_run(account: WandbConfig, folder: Path, **told: Any) -> Any:
    """A W&B run whose files lie below a folder; offline where the server does not answer or take it.

    `told` goes to `wandb.init`: id, name, group, job_type, tags, account.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "wandb"))  # of an offline run, pictures and files lie there
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else leaving waits for that, too, to be taken
    import wandb

    mode = resolve_mode(account)
    settings = wandb.Settings(silent=True, console="off", finish_timeout=FINISH, x_disable_stats=True)
    common: dict[str, Any] = {"project": account.project, "entity": account.entity, "dir": str(folder), **told}
    why = "does not answer" if mode == "online" and not is_there(_server()) else None
    if mode == "online" and why is None:
        try:
            hasty = settings.model_copy(update={"init_timeout": INIT})
            return wandb.init(mode="online", resume="allow", settings=hasty, **common)
        except Exception as error:
            wandb.teardown(exit_code=0)  # else the run's id is taken, by the run that was not
            why = f"did not take the run ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    if why is not None:
        log(f"W&B: {_server()} {why}; all is kept below {folder / 'wandb'}, `wandb sync` sends it later")
        mode = "offline"
    return wandb.init(mode=mode, resume="allow", settings=settings, **common)  # type: ignore[arg-type]


def quietly(what: str, call: Callable[[], Any]) -> Any:
    """What a call gives; None where it fails, which is told in one line."""
    try:
        return call()
    except Exception as error:
        logger.warning("W&B %s (%s); the run goes on, its files are whole", what, error)
        return None


def prediction_table(gallery: PredictionGallery) -> Any:
    """Some predictions of a benchmark as a W&B table, each with a small picture."""
    import wandb

    rows = []
    for shown in gallery.predictions:
        encoded = base64.b64decode(shown.picture.partition(",")[2])
        picture = wandb.Image(Image.open(io.BytesIO(encoded))) if encoded else None
        rows.append([shown.id, shown.why, picture, shown.question, shown.references, shown.text, shown.score])
    columns = ["id", "chosen as", "image", "question", "references", "prediction", "score"]
    return wandb.Table(columns=columns, data=rows)  # type: ignore[arg-type]


class Follower:
    """The W&B run of one record; quiet, and without effect once anything in it has failed."""

    def __init__(self, run: RunConfig, run_dir: Path, run_id: str) -> None:
        self.run, self.run_dir, self.run_id = run, run_dir, run_id
        self.place = RunDir(run_dir).wandb
        self.remote: Any = None
        self.seen = 0  # bytes of the log

    def start(self) -> None:
        run, config = self.run, self.run.wandb
        layers = select_layers(run)
        flat = {
            "job": run.job.name,
            "sweep": run.sweep.name,
            "model": run.model.name,
            "selector": run.selector.name,
            "num_layers": len(layers),
            "layers": list(layers),
            "data_fraction": run.data_fraction.fraction,
            "seed": run.seed,
            "recipe": run.recipe,
            "benchmarks": list(run.benchmark),
            "lr": run.train.lr,
            "projector_lr": run.train.projector_lr,
            "max_steps": run.train.max_steps,
            "global_batch_size": run.train.global_batch_size,
            "lora_r": run.lora.r,
            "engine": run.engine.name,
            "zero_stage": run.engine.zero_stage,
            "run_dir": str(self.run_dir),
        }
        self.remote = open_run(
            config,
            self.run_dir,
            id=self.run_id,
            name=self.run_dir.name,
            group=config.group or run.sweep.name or run.job.name,
            job_type=run.job.name,
            tags=[run.model.name, run.selector.name, *config.tags],
            config=flat,
        )
        self.remote.define_metric("train/step")
        self.remote.define_metric("train/*", step_metric="train/step")

    def follow(self) -> None:
        """Send the training curve's new rows; rows sent by an earlier command are not sent again."""
        log = RunDir(self.run_dir).train_log
        size = log.stat().st_size if log.is_file() else 0
        if self.remote is None or size == self.seen:
            return
        self.seen = size
        latest = sent = self.last_step()
        for row in read_json_lines(log):
            if row["step"] > latest:
                speed = row["tokens"] / row["seconds"]
                told = {"train/step": row["step"], "train/loss": row["loss"], "train/lr": row["lr"]}
                told |= {"train/tokens_per_second": speed, "train/grad_norm": row.get("grad_norm")}
                self.remote.log({key: value for key, value in told.items() if value is not None}, step=row["step"])
                latest = row["step"]
        if latest > sent:
            write_json(self.place, {"id": self.run_id, "last_step": latest})

    def last_step(self) -> int:
        """The last step that this or an earlier command sent; W&B takes none that is not beyond it."""
        return read_json(self.place)["last_step"] if self.place.is_file() else -1

    def finish(self, record: Record) -> None:
        summary = {f"eval/{name}": entry.value for name, entry in record.scores.items()}
        summary |= {f"eval_stderr/{name}": entry.stderr for name, entry in record.scores.items()}
        summary |= {
            f"cost/{name}": value
            for name, value in (record.train.to_json() if record.train else {}).items()
            if name != "bad_images"
        }
        self.remote.summary.update(summary)
        asked = {name: entry for name, entry in record.scores.items() if name in self.run.benchmark}
        of_run = Run(self.run_dir, dataclasses.replace(record, scores=asked))
        shown = galleries([of_run], num_worst=NUM_WORST, num_random=NUM_RANDOM, side=SIDE)
        if shown:
            step = self.last_step() + 1
            tables = {f"predictions/{gallery.benchmark}": prediction_table(gallery) for gallery in shown}
            self.remote.log(tables, step=step)
            write_json(self.place, {"id": self.run_id, "last_step": step})


class _Quiet:
    """A follower whose calls never raise; the first failure is told in one line and ends it."""

    def __init__(self, follower: Follower | None) -> None:
        self._follower = follower

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

    def finish(self, record: Record) -> None:
        self.call("follow")
        self.call("finish", record)


@contextmanager
def following(run: RunConfig, run_dir: Path, run_id: str) -> Iterator[_Quiet]:
    """The W&B run of a record, open while the block runs; a stand-in without effect where W&B is disabled."""
    follower = Follower(run, run_dir, run_id)
    quiet = _Quiet(None if run.wandb.mode == "disabled" else follower)
    quiet.start()
    code = 1
    try:
        yield quiet
        code = 0
    finally:
        if follower.remote is not None:
            quietly("did not finish", lambda: follower.remote.finish(exit_code=code))
