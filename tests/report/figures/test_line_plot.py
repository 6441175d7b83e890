"""Line plots as files and text."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from support.example_plot import PLOT

from vrx.report.figures.figure import FileFormat
from vrx.report.figures.line_plot import STYLES, Line, LinePlot, Panel

TESTS = Path(__file__).parents[2]


def texts_of_pdf(content: bytes) -> set[bytes]:
    """The texts that a PDF of matplotlib shows."""
    streams = re.findall(rb"/FlateDecode >>\nstream\n(.*?)\nendstream", content, re.DOTALL)
    texts = (text for stream in streams for text in re.findall(rb"\[(.*?)\]\sTJ", zlib.decompress(stream), re.DOTALL))
    return {b"".join(re.findall(rb"\((.*?)\)", text)) for text in texts}


def test_lines_differ_without_colour():
    assert len({marker for _, marker, _ in STYLES}) == len(STYLES)
    assert len({dashes for _, _, dashes in STYLES}) == len(STYLES)


@pytest.mark.parametrize(("file_format", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_same_plot_gives_the_same_bytes_in_another_process(file_format: FileFormat, magic: bytes):
    code = f"import sys; from support.example_plot import PLOT; sys.stdout.buffer.write(PLOT.draw('{file_format}'))"
    drawn = PLOT.draw(file_format)
    assert drawn.startswith(magic)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment, timeout=240)
    assert again.stdout == drawn
    assert b"Date" not in drawn


def test_text_has_a_line_for_each_line_with_names_spread_and_arrows():
    line = Line("ours", ((0.0, 1.0, None), (1.0, 2.0, 0.5)), level=1.5)
    panel = Panel("t", "x", "y", (line,), marks=("none", "0 to 7"), arrows=True)
    assert LinePlot("p", "A plot", (panel,)).as_text() == "A plot\n  t, y, ours: none: 1.00, 0 to 7: 2.00 ±0.50 ↑\n"


def test_named_positions_are_drawn():
    line = Line("ours", ((0.0, 1.0, None), (1.0, 2.0, 0.5)), level=1.5)
    panel = Panel("t", "x", "y", (line,), marks=("none", "0 to 7"), arrows=True)
    assert LinePlot("p", "p", (panel,)).draw("png").startswith(b"\x89PNG")


def test_charts_hold_the_points_a_chart_a_panel():
    first, second = PLOT.charts()
    assert (first.name, second.name) == ("p_1", "p_2")
    assert first.rows[:2] == ((1.0, "a", 40.0), (8.0, "a", 60.0))
    assert len(first.rows) == 6


def test_a_logarithmic_axis_has_plain_numbers():
    line = Line("ours", ((0.0, 9.0, None), (1.0, 20000.0, None)))
    panel = Panel("a", "x", "y", (line,), marks=("none", "all"), is_log_y=True)
    assert {b"10", b"1000", b"10000"} <= texts_of_pdf(LinePlot("p", "p", (panel,)).draw("pdf"))
