"""Tables and figures of the paper by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.report_runs import ALL, PAPER, SPARSE, write_run

from vrx.config.errors import UserError
from vrx.report.collect import find_runs
from vrx.report.figures.figure import Figure, FigureInputs
from vrx.report.paper_artifacts import FIGURES, all_figures, artifact_as_text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for layers in (ALL, SPARSE):
        write_run(tmp_path, layers)
    return tmp_path


def test_tables_are_markdown_and_figures_their_numbers(root: Path):
    assert "| 8 layers" in artifact_as_text("table2", root)
    assert "8: 108.00, 32: 132.00" in artifact_as_text("figure3", root)


def test_other_models_are_left_out(root: Path):
    assert artifact_as_text("table2", root, model="tiny") == ""
    assert artifact_as_text("figure3", root, model="tiny") == ""


def test_an_unknown_name_is_refused_with_the_valid_ones(root: Path):
    with pytest.raises(UserError, match="no table or figure table9; valid: table1"):
        artifact_as_text("table9", root)


def test_every_figure_can_be_drawn_printed_and_charted(root: Path):
    figures = all_figures(FigureInputs(find_runs(root), PAPER, (root,)))
    assert figures
    for figure in figures:
        assert figure.draw("png").startswith(b"\x89PNG")
        assert figure.as_text().startswith(figure.title)
        for chart in figure.charts():
            assert chart.name.startswith(figure.name)
            assert {len(row) for row in chart.rows} == {len(chart.columns)}


@pytest.mark.parametrize("name", FIGURES)
def test_without_runs_there_is_no_figure(name: str, tmp_path: Path):
    build: Callable[[FigureInputs], Sequence[Figure]] = FIGURES[name]
    assert list(build(FigureInputs([], PAPER, (tmp_path,)))) == []
