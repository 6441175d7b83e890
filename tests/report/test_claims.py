"""Claims of the paper, judged on runs of a chosen skill."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.report_runs import ALL, PAPER, SPARSE, TOP, tables_of, write_run

from vrx.report.claims import Comparison, Judgement, claims_as_markdown, judge_claims
from vrx.report.collect import Run, find_runs
from vrx.report.paper import Claim
from vrx.report.paper_layers import label_at_depth
from vrx.report.question_scores import question_scores
from vrx.selectors.rules import sparse_uniform

BY_SCORE = (
    "image_attention",
    "parameter_change",
    "block_influence",
    "multimodal_block_influence",
    "angular_distance",
)
CLAIM = Claim("name", "text", "source", "table1", "a", ("b", "c"))


def judgements(root: Path) -> dict[str, Judgement]:
    runs = find_runs(root)
    return {each.claim.name: each for each in judge_claims(PAPER, runs, question_scores(runs))}


def test_a_row_of_all_layers_is_named_by_the_models_depth():
    labels = [label_at_depth(row, 30, PAPER) for row in PAPER.artifacts["table4"].rows_of("bunny-llama3-8b")]
    assert labels[:2] == ["Fully trained (30 layers)", "Partially trained (8 layers)"]


def test_a_row_by_the_models_own_scores_is_named_by_its_selector_and_marked_in_tables(tmp_path: Path):
    row = next(row for row in PAPER.artifacts["table1"].rows if row.label == "Angular Distance")
    assert label_at_depth(row, 30, PAPER) == "angular distance"
    write_run(tmp_path, sparse_uniform(30, 8), depth=30, columns=("gqa",))
    (table,) = tables_of(tmp_path, "table1")
    assert [row.label for row in table.rows if "angular" in row.label] == ["Ours: angular distance"]


def test_every_claim_names_rows_of_its_table():
    for claim in PAPER.claims:
        labels = {row.label for row in PAPER.artifacts[claim.table].rows}
        if claim.table != "figure4":
            assert {claim.row, *claim.against} <= labels, claim.name
    assert len({claim.name for claim in PAPER.claims}) == len(PAPER.claims)


@pytest.mark.parametrize(
    ("skills", "verdict"),
    [((0.9, 0.9), "holds"), ((0.9, 0.3), "does not hold")],
)
def test_a_quarter_of_the_layers_is_judged_by_its_share(tmp_path: Path, skills: tuple[float, float], verdict: str):
    write_run(tmp_path, ALL, skill=skills[0])
    write_run(tmp_path, SPARSE, skill=max(skills) + 0.1 if verdict == "holds" else skills[1])
    judged = judgements(tmp_path)["quarter"]
    assert judged.verdict == verdict, judged.numbers()
    assert judged.num_seeds == 1


def test_a_partly_evaluated_run_does_not_narrow_a_claim(tmp_path: Path):
    for seed in (0, 1):
        write_run(tmp_path, ALL, skill=0.9, seed=seed)
        write_run(tmp_path, SPARSE, skill=0.5, seed=seed)
    complete = judgements(tmp_path)["quarter"]
    for layers in (ALL, SPARSE):
        write_run(tmp_path, layers, skill=0.95, seed=2, columns=("gqa",))
    assert judgements(tmp_path)["quarter"] == complete
    assert complete.num_seeds == 2


def test_a_comparison_over_fewer_benchmarks_names_them(tmp_path: Path):
    write_run(tmp_path, SPARSE, skill=0.9)
    write_run(tmp_path, ALL, skill=0.5, columns=("gqa", "tdiuc"))
    write_run(tmp_path, TOP, skill=0.5)
    judged = judgements(tmp_path)
    assert [each.label for each in judged["quarter"].comparisons] == ["98 % of All layers on TDIUC, GQA"]
    assert [each.label for each in judged["consecutive"].comparisons] == ["Consecutive Top"]


def test_a_claim_about_rows_without_runs_cannot_be_told(tmp_path: Path):
    write_run(tmp_path, ALL, skill=0.9)
    write_run(tmp_path, SPARSE, skill=0.9)
    write_run(tmp_path, TOP, skill=0.1)
    judged = judgements(tmp_path)
    assert judged["consecutive"].verdict == "cannot be told"
    assert [each.label for each in judged["consecutive"].comparisons] == ["Consecutive Top"]
    assert "Consecutive Lower" in judged["consecutive"].missing
    assert "no runs of: Consecutive Lower" in judged["consecutive"].numbers()[-1]
    assert judged["few"].comparisons == ()


def test_importance_is_judged_by_the_scores_of_a_model_of_another_depth(tmp_path: Path):
    write_run(tmp_path, sparse_uniform(30, 8), depth=30, skill=0.9)
    for number, selector in enumerate(BY_SCORE):
        write_run(tmp_path, tuple(range(number, number + 8)), depth=30, skill=0.3, selectors=[selector])
        verdict = "holds" if selector == BY_SCORE[-1] else "cannot be told"
        assert judgements(tmp_path)["importance"].verdict == verdict
    judged = judgements(tmp_path)["importance"]
    assert [each.label for each in judged.comparisons] == [name.replace("_", " ") for name in BY_SCORE]


def test_one_contrary_row_refutes_a_claim_that_others_support(tmp_path: Path):
    for layers, skill in ((4, 0.5), (2, 0.95), (1, 0.1)):
        write_run(tmp_path, sparse_uniform(32, layers), skill=skill)
    assert judgements(tmp_path)["few"].verdict == "does not hold"


def test_a_seed_that_disagrees_leaves_a_claim_open():
    agreeing = Comparison("b", 2.0, 1.0, 3.0, (1.0, 3.0))
    split = Comparison("c", 2.0, 1.0, 3.0, (-0.5, 4.5))
    assert Judgement(CLAIM, "m", (agreeing, agreeing), ()).verdict == "holds"
    assert Judgement(CLAIM, "m", (agreeing, split), ()).verdict == "cannot be told"
    assert Judgement(CLAIM, "m", (agreeing,), ("c",)).verdict == "cannot be told"


def test_no_better_needs_every_other_row_within_the_margin():
    claim = Claim("name", "text", "source", "table1", "a", ("b",), margin=1.0)
    verdicts = {
        "holds": Comparison("b", -0.2, -0.9, 0.5, (-0.3, -0.1)),
        "cannot be told": Comparison("b", -0.5, -1.5, 0.5, (-0.5, -0.5)),
        "does not hold": Comparison("b", -0.5, -0.9, -0.1, (-0.5, -0.5)),
    }
    for verdict, comparison in verdicts.items():
        assert Judgement(claim, "m", (comparison,), ()).verdict == verdict


def test_the_table_shows_each_claim_with_its_verdict_and_numbers(tmp_path: Path):
    write_run(tmp_path, ALL, skill=0.9)
    write_run(tmp_path, SPARSE, skill=0.2)
    judged = list(judgements(tmp_path).values())
    (text,) = claims_as_markdown(judged).values()
    for each in judged:
        assert f"| {each.claim.text} ({each.claim.source}) | **{each.verdict}** |" in text
    assert claims_as_markdown([]) == {}


def test_pruning_compares_a_region_pruned_outside_itself_with_all_layers(tmp_path: Path):
    columns = PAPER.artifacts["figure4"].columns
    runs = [write_run(tmp_path, ALL, columns=columns)]
    for layers, pruned, skill in ((ALL, 3, 0.2), (SPARSE, 5, 0.8), (SPARSE, SPARSE[0], 0.1)):
        tuned = write_run(tmp_path / str(pruned), layers, columns=columns, skill=skill)
        identity = tuned.record.identity | {"pruned": [pruned]}
        runs.append(Run(tuned.folder, dataclasses.replace(tuned.record, identity=identity)))
    judged = {each.claim.name: each for each in judge_claims(PAPER, runs, question_scores(runs))}["pruning"]
    assert [each.label for each in judged.comparisons] == ["1 pruned"]
    assert judged.verdict == "holds", judged.numbers()


def test_what_pruning_loses_is_measured_from_the_same_runs_before_pruning(tmp_path: Path):
    columns, runs = PAPER.artifacts["figure4"].columns, []
    for layers, pruned, before, after in ((ALL, 3, 1.0, 0.3), (SPARSE, 5, 0.5, 0.45)):
        runs.append(write_run(tmp_path, layers, columns=columns, skill=before))
        tuned = write_run(tmp_path / str(pruned), layers, columns=columns, skill=after)
        identity = tuned.record.identity | {"pruned": [pruned]}
        runs.append(Run(tuned.folder, dataclasses.replace(tuned.record, identity=identity)))
    scores = question_scores(runs)
    judged = {each.claim.name: each for each in judge_claims(PAPER, runs, scores)}["pruning_loss"]
    all_layers, all_pruned, region, region_pruned = (
        sum(run.percent(column) for column in columns) / len(columns) for run in runs
    )
    (comparison,) = judged.comparisons
    assert comparison.value == pytest.approx((region_pruned - region) - (all_pruned - all_layers))
    assert judged.verdict == "holds", judged.numbers()
    without = [run for run in runs if run.pruned or len(run.layers) == 32]  # the region was not scored before
    judged = {each.claim.name: each for each in judge_claims(PAPER, without, scores)}["pruning_loss"]
    assert judged.verdict == "cannot be told"


def test_a_pruned_run_that_was_partly_evaluated_before_has_no_change(tmp_path: Path):
    columns, runs = PAPER.artifacts["figure4"].columns, []
    for layers, pruned in ((ALL, 3), (SPARSE, 5)):
        runs.append(write_run(tmp_path, layers, columns=columns[:1]))
        tuned = write_run(tmp_path / str(pruned), layers, columns=columns)
        identity = tuned.record.identity | {"pruned": [pruned]}
        runs.append(Run(tuned.folder, dataclasses.replace(tuned.record, identity=identity)))
    judged = {each.claim.name: each for each in judge_claims(PAPER, runs, question_scores(runs))}
    assert len(judged["pruning"].comparisons) == 1
    assert judged["pruning_loss"].verdict == "cannot be told" and judged["pruning_loss"].missing == ("1 pruned",)
