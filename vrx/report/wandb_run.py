"""The W&B run of each record: training curve, scores and, where asked for, some predictions.

Local files are the truth; W&B may be absent or offline. Everything happens in the driver, beside the training
processes, and nothing here raises: a failure of W&B cannot stop a run.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from vrx.config.schema import RunConfig
from vrx.report.collect import Run
from vrx.report.prediction_samples import PredictionGallery, SampleCounts, prediction_galleries
from vrx.report.run_summary import accuracy_benchmarks, mean_score
from vrx.report.wandb_connection import open_run, read_run_file, wandb_environment, without_raising
from vrx.runs.files import read_json_lines
from vrx.runs.record import Record
from vrx.runs.run_dir import RunDir

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)
PREDICTIONS = SampleCounts(num_worst=16, num_random=16, side=224)
CURVE = ("loss", "lr", "grad_norm")  # columns of train.jsonl


class RunLogger:
    """Sends one run to W&B; may raise."""

    def __init__(self, run: RunConfig, run_dir: Path, run_id: str, *, layers: Sequence[int]) -> None:
        self.run, self.run_dir, self.layers = run, run_dir, layers
        self.run_file = read_run_file(run_dir, run_id)
        self.remote: Any = None
        self.num_bytes_seen = 0  # of the training log

    def start(self) -> None:
        """Open the W&B run, a new one or that of an earlier command."""
        run, config = self.run, self.run.wandb
        self.remote = open_run(
            config,
            self.run_dir,
            id=self.run_file.id,
            name=self.run_dir.name,
            group=config.group or run.sweep.name or run.job.name,
            job_type=run.job.name,
            tags=[run.model.name, run.selector.name, *config.tags],
            config=_flat_config(run, self.run_dir, self.layers),
        )
        self.run_file.save()
        # A server knows which rows it has. An offline run of a killed command may lack rows that were given to it.
        self.run_file.last_step = max(self.run_file.last_step, self.remote.starting_step - 1)
        self.remote.define_metric("train/step")
        self.remote.define_metric("train/*", step_metric="train/step")

    def send_curve(self) -> None:
        """Send the new rows of the training log; those that an earlier command sent, and ended, are not sent again."""
        log = RunDir(self.run_dir).train_log
        size = log.stat().st_size if log.is_file() else 0
        if self.remote is None or size == self.num_bytes_seen:
            return
        self.num_bytes_seen = size
        for row in read_json_lines(log):
            if row["step"] > self.run_file.last_step:
                values = {f"train/{name}": row[name] for name in CURVE if row.get(name) is not None}
                speed = row["tokens"] / row["seconds"]
                self.remote.log(
                    {"train/step": row["step"], **values, "train/tokens_per_second": speed}, step=row["step"]
                )
                self.run_file.last_step = row["step"]

    def finish(self, exit_code: int) -> None:
        """End the W&B run; only then its rows count as sent, since a kill loses those that are not on the disk yet."""
        self.remote.finish(exit_code=exit_code)
        self.run_file.save()

    def send_record(self, record: Record) -> None:
        """Send scores and costs, and predictions with `wandb.log_predictions`."""
        summary = {f"eval/{name}": entry.value for name, entry in record.scores.items()}
        summary |= {f"eval_stderr/{name}": entry.stderr for name, entry in record.scores.items()}
        mean = mean_score(record, accuracy_benchmarks(record))
        summary |= {} if mean is None else {"score/mean": mean}
        costs = record.train.to_json() if record.train else {}
        summary |= {f"cost/{name}": value for name, value in costs.items() if isinstance(value, int | float)}
        self.remote.summary.update(summary)
        if self.run.wandb.log_predictions:
            self._send_predictions(record)

    def _send_predictions(self, record: Record) -> None:
        scores = {name: entry for name, entry in record.scores.items() if name in self.run.benchmark}
        evaluated = Run(self.run_dir, dataclasses.replace(record, scores=scores))
        galleries = prediction_galleries([evaluated], PREDICTIONS)
        if galleries:
            self.run_file.last_step += 1
            tables = {f"predictions/{gallery.benchmark}": prediction_table(gallery) for gallery in galleries}
            self.remote.log(tables, step=self.run_file.last_step)


class SafeRunLogger:
    """A `RunLogger` whose calls never raise: the first failure is one line, and ends the logging."""

    def __init__(self, logger: RunLogger | None) -> None:
        self._logger = logger

    def start(self) -> None:
        """Open the W&B run."""
        self._try(lambda run_logger: run_logger.start())

    def follow(self) -> None:
        """Send what is new in the training log."""
        self._try(lambda run_logger: run_logger.send_curve())

    def finish(self, record: Record) -> None:
        """Send the rest of the training log, and the record."""
        self.follow()
        self._try(lambda run_logger: run_logger.send_record(record))

    def _try(self, call: Callable[[RunLogger], None]) -> None:
        if self._logger is None:
            return
        try:
            with wandb_environment(self._logger.run_dir):
                call(self._logger)
        except Exception as error:
            self._logger = None
            logger.warning("W&B: logging stopped (%s); the run continues, local files are unaffected", error)


@contextmanager
def following(run: RunConfig, run_dir: Path, run_id: str, *, layers: Sequence[int]) -> Iterator[SafeRunLogger]:
    """The W&B run of a record, open while the block runs; does nothing where W&B is disabled.

    layers: the tuned decoder layers, empty for a base model.
    """
    if run.wandb.mode == "disabled":
        yield SafeRunLogger(None)
        return
    run_logger = without_raising(
        "read the W&B run of this directory", lambda: RunLogger(run, run_dir, run_id, layers=layers)
    )
    safe = SafeRunLogger(run_logger)
    safe.start()
    exit_code = 1
    try:
        yield safe
        exit_code = 0
    finally:
        if run_logger is not None and run_logger.remote is not None:
            with wandb_environment(run_dir):
                without_raising("finish the run", lambda: run_logger.finish(exit_code))


def prediction_table(gallery: PredictionGallery) -> wandb.Table:
    """Some predictions of a benchmark as a W&B table, each with a small picture."""
    import wandb

    rows = []
    for prediction in gallery.predictions:
        encoded = base64.b64decode(prediction.picture.partition(",")[2])
        picture = wandb.Image(Image.open(io.BytesIO(encoded))) if encoded else None
        answer = [prediction.question, prediction.references, prediction.text, prediction.score]
        rows.append([prediction.id, prediction.reason, picture, *answer])
    columns = ["id", "chosen as", "image", "question", "references", "prediction", "score"]
    return wandb.Table(columns=columns, data=rows)  # type: ignore[arg-type]


def _flat_config(run: RunConfig, run_dir: Path, layers: Sequence[int]) -> dict[str, object]:
    """The settings that runs are grouped and filtered by."""
    return {
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
        "run_dir": str(run_dir),
    }
