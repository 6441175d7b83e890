"""Calibration: whether released checkpoints score here what was published of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from vrx.config.released import Checkpoint, Released, load_released
from vrx.report.collect import Run
from vrx.report.formats import signed

Verdict = Literal["pass", "fail", "not comparable"]


@dataclass(frozen=True)
class Calibration:
    """A published score of a checkpoint, in percent, and ours; `hint` says what to look at where it is no pass."""

    checkpoint: Checkpoint
    benchmark: str
    run: Run
    verdict: Verdict
    hint: str = ""

    @property
    def published(self) -> float:
        return self.checkpoint.scores[self.benchmark]

    @property
    def ours(self) -> float:
        return self.run.percent(self.benchmark)

    @property
    def difference(self) -> str:
        """Ours minus the published score, with its sign."""
        return signed(self.ours - self.published)


def calibrate(runs: Sequence[Run], released: Released | None = None) -> list[Calibration]:
    """Each published score that a run of the untouched checkpoint has, or answers of it from elsewhere."""
    released = released or load_released()
    comparisons = []
    for checkpoint in released.checkpoints:
        for run in (run for run in runs if _is_of(run, checkpoint)):
            names = [name for name in checkpoint.scores if name in run.record.scores]
            comparisons += [_compare(checkpoint, name, run, released) for name in names]
    return comparisons


def calibration_as_markdown(runs: Sequence[Run], *, model: str | None = None, released: Released | None = None) -> str:
    """The comparisons as a table, and the commands of the checkpoints without a run; of one model, where named."""
    released = released or load_released()
    entries = [each for each in calibrate(runs, released) if model in (None, each.checkpoint.model)]
    lines = ["### Published scores of released checkpoints", ""]
    if entries:
        lines += ["| checkpoint | benchmark | published | here | difference | |", "|---|---|---:|---:|---:|---|"]
        lines += [
            f"| {each.checkpoint.name} | {each.benchmark} | {each.published:.2f} | {each.ours:.2f} | {each.difference} "
            f"| **{each.verdict}**{': ' + each.hint if each.hint else ''} |"
            for each in entries
        ]
        passed = sum(each.verdict == "pass" for each in entries)
        lines += ["", f"- {passed} of {len(entries)} scores are within their tolerance of the published ones."]
    done = {each.checkpoint.name for each in entries}
    missing = [each for each in released.checkpoints if each.name not in done and model in (None, each.model)]
    return "\n".join([*lines, *(f"- no run of {each.name}: `{each.command}`" for each in missing)]) + "\n"


def _is_of(run: Run, checkpoint: Checkpoint) -> bool:
    """Whether a run evaluates just this checkpoint: by its hub id or the last part of a folder's name."""
    if run.is_from_elsewhere:
        return run.model == checkpoint.name
    if not run.is_untouched or run.model != checkpoint.model:
        return False
    lvlm = run.record.model.parts.get("lvlm")
    if lvlm is None or checkpoint.lvlm is None:
        return lvlm is checkpoint.lvlm
    name = lvlm.partition("@")[0]
    return name == checkpoint.lvlm or PurePath(name).name == PurePath(checkpoint.lvlm).name


def _compare(checkpoint: Checkpoint, benchmark: str, run: Run, released: Released) -> Calibration:
    number, all_questions = run.record.scores[benchmark].num_samples, checkpoint.questions.get(benchmark)
    if all_questions is not None and number != all_questions:
        return Calibration(checkpoint, benchmark, run, "not comparable", f"{number} of {all_questions} questions")
    is_close = abs(run.percent(benchmark) - checkpoint.scores[benchmark]) <= checkpoint.tolerance
    hint = "" if is_close else released.explanation(benchmark)
    return Calibration(checkpoint, benchmark, run, "pass" if is_close else "fail", hint)
