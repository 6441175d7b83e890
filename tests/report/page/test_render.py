"""The page: self-contained, with links to files, and safe against what models answer."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from support.report_runs import ALL, HOSTILE, PAPER, SPARSE, tables_of, write_run

from vrx.report.collect import find_runs
from vrx.report.page.render import PageContents, as_json, render_page


@pytest.fixture(scope="module")
def page(reported: Path) -> str:
    return (reported / "report" / "index.html").read_text(encoding="utf-8")


def embedded(page: str) -> list[object]:
    """The data of the page's charts and of its questions."""
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page)]


def test_the_page_needs_no_network(page: str):
    for source in re.findall(r'\bsrc="([^"]*)"', page):
        assert source.startswith("data:image/")
    addresses = re.sub(r"http-equiv|http://www\.w3\.org/2000/svg", "", page)  # the name of a language, not fetched
    assert "http" not in addresses
    assert "default-src 'none'" in page and "file:" not in page


def test_links_lead_to_files(reported: Path, page: str):
    links = [html.unescape(link) for link in re.findall(r'\bhref="([^"]*)"', page)]
    files = [link for link in links if not link.startswith(("#", "data:"))]
    assert len(files) >= 2 * len(find_runs(reported))
    for link in files:
        assert (reported / "report" / unquote(link)).resolve().is_file()


def test_links_inside_the_page_lead_to_its_parts_and_no_two_have_one_name(page: str):
    names = re.findall(r'\bid="([^"]*)"', page)
    assert len(names) == len(set(names))
    inside = re.findall(r'href="#([^"]*)"', page)
    assert len(inside) > 5 and set(inside) <= set(names)


def test_predictions_never_become_markup(page: str):
    assert page.count("<script>") == 1
    assert page.count("</script>") == 1 + page.count('<script type="application/json">')
    assert "<img src=x" not in page
    texts = [str(part) for part in embedded(page)]
    assert any("<img src=x onerror=alert(2)>{{ 7 * 7 }}" in text for text in texts)  # as it was answered


def test_embedded_data_end_no_script_and_come_back_as_they_were():
    text = as_json([HOSTILE, "<!--", "&amp;", "\u2028"])
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == [HOSTILE, "<!--", "&amp;", "\u2028"]


def test_rows_without_runs_are_folded_behind_the_command_that_makes_them(page: str):
    main, folded = page.split('<details class="missing">', 1)
    assert "vrx sweep=table1 model=bunny-llama3-8b" in folded
    assert "Angular Distance" not in main.split('id="tables"', 1)[1]
    assert "Angular Distance" in folded
    assert "vrx sweep=figure1_pruning" in page.split('id="not-run"', 1)[1]


def test_a_page_that_is_too_large_has_its_pictures_beside_it(tmp_path: Path):
    for layers in (ALL, SPARSE):
        write_run(tmp_path, layers, columns=("gqa",))
    runs = find_runs(tmp_path)
    contents = PageContents(PAPER, tables_of(tmp_path, "table2"), [], runs)
    path = tmp_path / "report" / "index.html"
    whole = render_page(contents, path=path)
    assert whole.files == {} and "data:image/png;base64" in whole.html
    split = render_page(contents, path=path, max_bytes=len(whole.html) - 1)
    assert len(split.html) < len(whole.html) and "data:image/" not in split.html
    questions = next(part for part in embedded(split.html) if isinstance(part, dict) and "pictures" in part)
    assert questions["pictures"] == list(split.files)
    assert all(content.startswith((b"\x89PNG", b"\xff\xd8")) for content in split.files.values())
    without = render_page(PageContents(PAPER, [], [], runs, with_predictions=False), path=path, max_bytes=1)
    assert without.files == {} and 'id="compare"' not in without.html
