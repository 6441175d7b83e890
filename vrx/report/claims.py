"""Which claims of the paper hold on the runs at hand: `paper.yaml` says what each claim compares."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vrx.config.paths import as_file_name
from vrx.report.bootstrap import pair_scores, paired_bootstrap
from vrx.report.cells import SEED, runs_with, scores_of
from vrx.report.collect import Run
from vrx.report.paper import Artifact, Claim, Paper
from vrx.report.paper_layers import label_at_depth, row_runs
from vrx.report.question_scores import QuestionScores
from vrx.report.run_groups import group_by_identity, group_by_setting

NOTES = (
    "Differences are of averages over the benchmarks; intervals are of a paired bootstrap over the questions.",
    "A claim holds if all its differences are beyond chance on its side, and does not hold if one is beyond chance on "
    "the other: the interval excludes zero, and all seeds agree.",
    "Where the claim is that others are no better, it holds if none is better by a point or more.",
)
Verdict = Literal["holds", "does not hold", "cannot be told"]


@dataclass(frozen=True)
class Comparison:
    """The score of one row minus (a share of) another's, in points, with its 95 % interval over the questions.

    by_seed: the same difference for each seed that both rows have.
    """

    label: str
    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    def is_above(self, limit: float) -> bool:
        """Whether the difference is beyond chance above a limit: its interval and each seed are."""
        return min(self.low, *self.by_seed) > limit

    def is_below(self, limit: float) -> bool:
        """Whether the difference is beyond chance below a limit: its interval and each seed are."""
        return max(self.high, *self.by_seed) < limit


@dataclass(frozen=True)
class Judgement:
    """What the runs of a model say about a claim; `missing` are the rows without runs."""

    claim: Claim
    model: str
    comparisons: tuple[Comparison, ...]
    missing: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """It holds if each comparison agrees beyond chance, and does not if one disagrees beyond chance."""
        limit = -self.claim.margin
        if any(comparison.is_below(0) for comparison in self.comparisons):
            return "does not hold"
        if self.comparisons and not self.missing and all(each.is_above(limit) for each in self.comparisons):
            return "holds"
        return "cannot be told"

    @property
    def num_seeds(self) -> int:
        """The least number of seeds behind a comparison; 0 without one."""
        return min((len(comparison.by_seed) for comparison in self.comparisons), default=0)

    def numbers(self) -> list[str]:
        """The comparisons in words: `vs. lower layers +1.2 [0.3, 2.1]`, `no run of: …`."""
        against = "below" if self.claim.is_lower else "vs."
        parts = [
            f"{against} {each.label} {each.value:+.1f} [{each.low:.1f}, {each.high:.1f}]" for each in self.comparisons
        ]
        return [*parts, *([f"no runs of: {', '.join(self.missing)}"] if self.missing else [])]


def judge_claims(paper: Paper, runs: Sequence[Run], scores: QuestionScores) -> list[Judgement]:
    """A judgement of each claim for each model that has runs to compare, in the order of the paper.

    Of the model's largest setting, runs of all data alone.
    """
    models = sorted({run.model for run in runs if run.is_tuned and run.fraction == 1})
    judged = [_judge_model(paper, model, runs, scores) for model in models]
    return [each for of_model in judged if any(each.comparisons for each in of_model) for each in of_model]


def _judge_model(paper: Paper, model: str, runs: Sequence[Run], scores: QuestionScores) -> list[Judgement]:
    tuned = group_by_setting([run for run in runs if run.fraction == 1], model)[0]
    judgements = []
    for claim in paper.claims:
        artifact = paper.artifacts[claim.table]
        if claim.table == "figure4":
            sides, missing = _pruned_sides([run for run in runs if run.model == model])
        else:
            sides, missing = _row_sides(claim, artifact, paper, tuned)
        compared_scores = _changes(scores, tuned) if claim.is_change else scores
        evaluated = [run for pair in sides.values() for side in pair for run in side]
        columns = {
            column: paper.columns[column]
            for column in artifact.columns
            if any(run.score_name(column) for run in evaluated)
        }
        compared = [_compare(claim, columns, label, a, b, compared_scores) for label, (a, b) in sides.items()]
        unpaired = [label for label, each in zip(sides, compared, strict=True) if each is None]
        comparisons = tuple(each for each in compared if each is not None)
        judgements.append(Judgement(claim, model, comparisons, (*missing, *unpaired)))
    return judgements


def claims_as_markdown(judgements: Sequence[Judgement]) -> dict[str, str]:
    """The judgements of each model as a table with notes on how they are made, by the name `claims_<model>`."""
    models = dict.fromkeys(each.model for each in judgements)
    return {
        f"claims_{as_file_name(model)}": _as_table(model, [each for each in judgements if each.model == model])
        for model in models
    }


def _as_table(model: str, judgements: Sequence[Judgement]) -> str:
    lines = [
        f"### The paper's claims, on {model}",
        "",
        "| claim | verdict | seeds | difference in points, with its 95 % interval |",
        "|---|---|---:|---|",
    ]
    for each in judgements:
        seeds, numbers = each.num_seeds or "–", "; ".join(each.numbers())
        lines.append(f"| {each.claim.text} ({each.claim.source}) | **{each.verdict}** | {seeds} | {numbers} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in NOTES)]) + "\n"


Sides = Mapping[str, tuple[Sequence[Run], Sequence[Run]]]  # by the label of a comparison


def _row_sides(claim: Claim, artifact: Artifact, paper: Paper, tuned: Sequence[Run]) -> tuple[Sides, list[str]]:
    """The runs of the claim's row and of each row that it is compared with; the labels of rows without runs."""
    model = tuned[0].model if artifact.rows_of(tuned[0].model) else artifact.rows[0].model
    rows, depth = {row.label: row for row in artifact.rows_of(model)}, tuned[0].depth
    own = row_runs(rows[claim.row], tuned, depth, paper)
    against = [rows[label] for label in claim.against]
    labels = [label_at_depth(row, depth, paper) for row in against]
    others = {label: row_runs(row, tuned, depth, paper) for label, row in zip(labels, against, strict=True)}
    missing = [label for label, runs in {claim.row: own, **others}.items() if not runs]
    return {label: (own, runs) for label, runs in others.items() if own and runs}, missing


def _pruned_sides(runs: Sequence[Run]) -> tuple[Sides, list[str]]:
    """For each number of pruned layers a region pruned outside itself, and all layers tuned and pruned anywhere."""
    groups = group_by_identity([run for run in runs if run.pruned], except_for=("pruned", "layers"))
    sides: dict[str, tuple[Sequence[Run], Sequence[Run]]] = {}
    for count in sorted({len(run.pruned or ()) for run in (groups[0] if groups else ())}):
        pruned = [run for run in groups[0] if len(run.pruned or ()) == count]
        whole = [run for run in pruned if len(run.layers) == run.depth]
        outside = [run for run in pruned if len(run.layers) < run.depth and not set(run.pruned or ()) & run.layers]
        if whole and outside:
            sides[f"{count} pruned"] = (outside, whole)
    return sides, [] if sides else ["pruned LVLMs"]


def _changes(scores: QuestionScores, tuned: Sequence[Run]) -> QuestionScores:
    """By question the score of a pruned run less that before pruning; None where a run has no such score before."""

    def change(run: Run, benchmark: str) -> dict[str, float] | None:
        scored = (each for each in tuned if benchmark in each.record.scores)
        before = next((each for each in scored if (each.seed, each.layers) == (run.seed, run.layers)), None)
        now, then = scores(run, benchmark), scores(before, benchmark) if before else None
        if not now or not then or now.keys() != then.keys():
            return None
        return {question: score - then[question] for question, score in now.items()}

    return change


def _compare(
    claim: Claim, evaluated: Mapping[str, str], label: str, a: Sequence[Run], b: Sequence[Run], scores: QuestionScores
) -> Comparison | None:
    """The paired difference over the benchmarks that both rows have; None without shared questions.

    evaluated: the benchmarks that any row of the claim has, with their names in print. The label names those of the
    comparison where they are fewer.
    """
    columns = [column for column in evaluated if all(any(run.score_name(column) for run in side) for side in (a, b))]
    a, b = runs_with(columns, a), runs_with(columns, b)
    seeds = sorted({run.seed for run in a} & {run.seed for run in b}, key=str)
    a, b = ([run for run in side if run.seed in seeds] for side in (a, b))
    sign = -1.0 if claim.is_lower else 1.0
    by_seed = [_pairs(claim, columns, _of_seed(a, seed), _of_seed(b, seed), scores) for seed in seeds]
    pairs = _pairs(claim, columns, a, b, scores)
    if not pairs or not all(by_seed):
        return None
    difference = paired_bootstrap(pairs, SEED)
    ends = sorted((100 * sign * difference.low, 100 * sign * difference.high))
    means = tuple(
        100 * sign * statistics.fmean(statistics.fmean(x) - statistics.fmean(y) for x, y in each)
        for each in by_seed
        if each
    )
    if claim.share != 1:
        label = f"{100 * claim.share:g} % of {label}"
    if len(columns) < len(evaluated):
        label += f" on {', '.join(evaluated[column] for column in columns)}"
    return Comparison(label, 100 * sign * difference.value, ends[0], ends[1], means)


Pairs = list[tuple[Sequence[float], Sequence[float]]]  # of each benchmark the scores by question of both rows


def _pairs(
    claim: Claim, columns: Sequence[str], a: Sequence[Run], b: Sequence[Run], scores: QuestionScores
) -> Pairs | None:
    pairs: Pairs = []
    for column in columns:
        pair = pair_scores(*([scores_of(run, column, scores) for run in side] for side in (a, b)))
        if pair is None:
            return None
        pairs.append((pair[0], [claim.share * score for score in pair[1]]))
    return pairs


def _of_seed(runs: Sequence[Run], seed: int | None) -> list[Run]:
    return [run for run in runs if run.seed == seed]
