"""The page: self-contained, with links to files, and safe against what models answer."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from support.report_runs import HOSTILE

from vrx.report.collect import find_runs


@pytest.fixture
def page(reported: Path) -> str:
    return (reported / "report" / "index.html").read_text(encoding="utf-8")


def test_the_page_needs_no_network(page: str):
    for source in re.findall(r'\bsrc="([^"]*)"', page):
        assert source.startswith("data:image/")
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "default-src 'none'" in page


def test_links_lead_to_files(reported: Path, page: str):
    links = [html.unescape(link) for link in re.findall(r'\bhref="([^"]*)"', page)]
    files = [link for link in links if not link.startswith(("#", "data:"))]
    assert len(files) >= 2 * len(find_runs(reported))
    for link in files:
        assert (reported / "report" / unquote(link)).resolve().is_file()


def test_predictions_never_become_markup(page: str):
    assert page.count("<script>") == 1
    assert "onerror=alert" not in re.sub(r"&lt;.*?&gt;", "", page)
    assert html.escape(HOSTILE) in page
    assert "49" not in re.findall(r"&lt;img src=x onerror=alert\(2\)&gt;(.{0,4})", page)
