"""Tables inside other Markdown files."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.report_runs import ALL, BUNNY, PAPER, SPARSE, write_run

from vrx.config.errors import UserError
from vrx.report.claims import judge_claims
from vrx.report.collect import find_runs
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.line_plot import Line, LinePlot, Panel
from vrx.report.figures.strip_plot import StripPlot, StripRow
from vrx.report.markdown_blocks import figure_as_markdown, insert_blocks, markdown_blocks
from vrx.report.paper_artifacts import all_figures, all_tables
from vrx.report.question_scores import question_scores

BLOCKS = {"a": "| new |\n", "b": "other\n"}
TEXT = "Before.\n<!-- begin a -->\nold\n<!-- end a -->\nAfter.\n"


def test_only_the_text_between_the_marks_is_replaced_and_twice_is_once():
    once = insert_blocks(TEXT, BLOCKS, source="page.md")
    assert once == "Before.\n<!-- begin a -->\n| new |\n<!-- end a -->\nAfter.\n"
    assert insert_blocks(once, BLOCKS, source="page.md") == once
    empty = TEXT.replace("old\n", "")
    assert insert_blocks(empty, BLOCKS, source="page.md") == once


@pytest.mark.parametrize("text", ["no block", TEXT.replace(" a ", " c "), TEXT.replace("end a", "end b")])
def test_a_file_without_a_known_block_is_refused_by_its_name(text: str):
    with pytest.raises(UserError, match=r"^page\.md: "):
        insert_blocks(text, BLOCKS, source="page.md")


def test_tables_claims_and_figures_have_blocks(tmp_path: Path):
    for layers, skill in ((ALL, 0.9), (SPARSE, 0.5)):
        write_run(tmp_path, layers, skill=skill)
    runs = find_runs(tmp_path)
    scores = question_scores(runs)
    figures = all_figures(FigureInputs(runs, PAPER, (tmp_path,)))
    blocks = markdown_blocks(all_tables(PAPER, runs, scores), judge_claims(PAPER, runs, scores), figures)
    assert {f"table1_{BUNNY}", f"table2_{BUNNY}", f"claims_{BUNNY}", f"figure2_{BUNNY}"} <= set(blocks)
    assert all(block.endswith("\n") for block in blocks.values())
    assert "**does not hold**" in blocks[f"claims_{BUNNY}"]


def test_a_line_plot_becomes_a_table_for_each_quantity():
    ours, papers = Line("ours", ((1, 2.0, 0.5), (4, 3.0, None))), Line("paper", ((4, 1.0, None),))
    panels = (Panel("a|b", "layers", "score", (ours, papers)), Panel("c", "layers", "hours", (papers,)))
    assert figure_as_markdown(LinePlot("plot", "A plot", panels, note="a note")).splitlines() == [
        "### A plot",
        "",
        "**score**",
        "",
        "| layers      |          1 |    4 |",
        "|-------------|-----------:|-----:|",
        "| a\\|b: ours  | 2.00 ±0.50 | 3.00 |",
        "| a\\|b: paper |            | 1.00 |",
        "",
        "**hours**",
        "",
        "| layers   |    4 |",
        "|----------|-----:|",
        "| c: paper | 1.00 |",
        "",
        "- a note",
    ]


def test_a_strip_plot_becomes_a_table_with_the_best_first():
    rows = (StripRow("top", 1.0), StripRow("sparse", 2.5, 0.25))
    assert figure_as_markdown(StripPlot("strip", "Strips", "score", (2.0, 3.0), rows)).splitlines() == [
        "### Strips",
        "",
        "| selector                   |        score | random selections below it (%) |",
        "|----------------------------|-------------:|-------------------------------:|",
        "| sparse                     |   2.50 ±0.25 |                             50 |",
        "| top                        |         1.00 |                              0 |",
        "| 2 random selections, mean  |         2.50 |                                |",
        "| 2 random selections, range | 2.00 to 3.00 |                                |",
    ]
