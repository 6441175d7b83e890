"""Tables as text.

The golden files are made from `golden/report/records.json`; `VRX_RENEW_GOLDEN=1 pytest tests/report/test_formats.py`
writes them again.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re

import pytest
from support.report_runs import BUNNY, GOLDEN, PAPER, golden_runs

from vrx.report.formats import RENDERERS, escape_latex, markdown_rows, render_csv, render_latex, render_markdown
from vrx.report.paper_artifacts import all_tables

GOLDEN_TABLES = (
    *(f"{name}_{BUNNY}" for name in ("table1", "table2", "figure2")),
    *(f"{name}_tiny" for name in ("table1", "table2", "table4", "figure2")),
)


@pytest.mark.parametrize("extension", RENDERERS)
def test_tables_are_as_committed(extension: str):
    texts = {table.name: RENDERERS[extension](table) for table in all_tables(PAPER, *golden_runs())}
    assert set(texts) == set(GOLDEN_TABLES)
    for name, text in texts.items():
        path = GOLDEN / f"{name}.{extension}"
        if os.environ.get("VRX_RENEW_GOLDEN"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")


def test_every_line_of_a_table_has_every_column():
    for table in all_tables(PAPER, *golden_runs()):
        lines = [line for line in render_markdown(table).splitlines() if line.startswith("|")]
        assert {line.count("|") for line in lines} == {len(table.columns) + 2}
        rows = [line for line in render_latex(table).splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {len(table.columns)}


def test_csv_gives_the_numbers_back():
    for table in all_tables(PAPER, *golden_runs()):
        lines = list(csv.DictReader(io.StringIO(render_csv(table))))
        assert len(lines) == len(table.rows) * len(table.columns)
        cells = {(row.label, column): row.cells[column] for row in table.rows for column in table.columns}
        for line in lines:
            cell = cells[line["row"], line["column"]]
            assert line["value"] == ("" if cell.value is None else f"{cell.value:.6f}")
            assert line["beyond_chance"] == ("" if cell.versus is None else str(cell.versus.beyond_chance))


def test_names_contain_no_latex_commands():
    assert escape_latex(r"50% of a_b & \input{x} $1$ #~^") == (
        r"50\% of a\_b \& \textbackslash{}input\{x\} \$1\$ \#\textasciitilde{}\textasciicircum{}"
    )


@pytest.mark.parametrize("name", ["=1+1", "\t=1+1", "\r=1+1", " @x", "+1"])
def test_no_cell_of_csv_is_a_formula(name: str):
    (table, *_) = all_tables(PAPER, *golden_runs())
    named = dataclasses.replace(table, model=name)
    for line in csv.DictReader(io.StringIO(render_csv(named))):
        assert line["model"] == "'" + re.sub(r"\s", " ", name)


def test_text_of_a_cell_is_neither_html_nor_a_row_of_its_own():
    _, _, row = markdown_rows([["", "score"], ["<img src=x>\n| `a` *b*", "1"]])
    assert r"| \<img src=x> \| \`a\` \*b\*" in row
