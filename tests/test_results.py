"""The numbers of README.md and docs/results.md are those of the runs in docs/results."""

from __future__ import annotations

from pathlib import Path

import pytest

from vrx.report.claims import judge_claims
from vrx.report.collect import find_runs
from vrx.report.figures.figure import FigureInputs
from vrx.report.markdown_blocks import BLOCK, insert_blocks, markdown_blocks
from vrx.report.paper import load_paper
from vrx.report.paper_artifacts import all_figures, all_tables
from vrx.report.question_scores import question_scores

ROOT = Path(__file__).parents[1]
RESULTS = sorted(path for path in (ROOT / "docs" / "results").iterdir() if path.is_dir())
PAGES = [ROOT / "README.md", ROOT / "docs" / "results.md"]


@pytest.fixture(scope="module")
def blocks() -> dict[str, str]:
    paper, runs = load_paper(), find_runs(*RESULTS)
    scores = question_scores(runs)
    figures = all_figures(FigureInputs(runs, paper, RESULTS))
    return markdown_blocks(all_tables(paper, runs, scores), judge_claims(paper, runs, scores), figures)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_table_is_made_again_from_the_committed_runs(page: Path, blocks: dict[str, str]):
    text = page.read_text(encoding="utf-8")
    assert insert_blocks(text, blocks, source=page.name) == text
    assert all(match["content"] for match in BLOCK.finditer(text))
