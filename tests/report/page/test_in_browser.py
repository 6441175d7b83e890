"""The page in a real browser."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import find_browser, open_page, set_size
from support.report_runs import BUNNY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def driver(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser that shows the page; the tests of this module share it, and leave the page as it was."""
    pytest.importorskip("selenium", reason="selenium is not installed: pip install 'vrx[browser]'")
    if find_browser() is None:
        pytest.skip("no Chromium with chromedriver: apt-get install chromium chromium-driver")
    with open_page(reported / "report" / "index.html", tmp_path_factory.mktemp("browser")) as driver:
        yield driver


def run(driver: Any, script: str, *arguments: object) -> Any:
    return driver.execute_script(script, *arguments)


def test_a_click_on_a_header_sorts(driver: Any):
    for name in (f"table1_{BUNNY}", f"table2_{BUNNY}", "table1_tiny", "all-runs", "curves", "drawn-figure3"):
        assert run(driver, "return document.getElementById(arguments[0]).offsetHeight", name) > 0
    table = run(driver, "return document.getElementById(arguments[0]).querySelector('table')", f"table1_{BUNNY}")

    def labels() -> list[str]:
        return run(driver, "return [...arguments[0].tBodies[0].rows].map(row => row.cells[0].dataset.value)", table)

    def values() -> list[str]:
        return run(driver, "return [...arguments[0].tBodies[0].rows].map(row => row.cells[6].dataset.value)", table)

    original = labels()
    assert original[:2] == ["All layers", "Sparse & Uniform (2 seeds)"]
    click = "const head = arguments[0].tHead.rows[0].cells[6]; head.firstChild.click(); return head.ariaSort"
    for order in ("descending", "ascending"):
        assert run(driver, click, table) == order
        numbers = [float(value) for value in values()]
        assert numbers == sorted(numbers, reverse=order == "descending")
        assert len(numbers) == 4 and "Chance" in labels()  # three rows of runs and the chance level
    assert run(driver, click, table) == "none" and labels() == original


def test_filters_hide_the_rows_of_other_runs(driver: Any):
    script = """
        const form = document.getElementById("filters");
        const rows = () => [...document.querySelectorAll("#all-runs tbody tr")].filter(row => row.offsetHeight).length;
        const counts = [rows()];
        for (const [name, value] of [["model", "tiny"], ["seed", "1"]]) {
            form.elements[name].value = value;
            form.dispatchEvent(new Event("input"));
            counts.push(rows());
        }
        form.reset();
        return new Promise(done => setTimeout(() => done([...counts, rows()]), 50));
    """
    assert run(driver, script) == [7, 3, 0, 7]


def test_charts_zoom_and_show_values_by_mouse_and_keyboard(driver: Any):
    script = """
        const chart = document.querySelector("#drawn-figure3 .chart"), plot = chart.querySelector(".plot");
        plot.scrollIntoView({block: "center"});
        const marks = () => [...plot.querySelectorAll("g path")].map(path => path.getAttribute("d")).join();
        const key = (name) => plot.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
        const states = [marks()];
        for (const name of ["+", "0"]) { key(name); states.push(marks()); }
        const frame = plot.getBoundingClientRect();
        const at = (type, x, y) => plot.dispatchEvent(new PointerEvent(type, {
            clientX: frame.left + x, clientY: frame.top + y, pointerType: "mouse", button: 0}));
        at("pointerdown", 100, 50); at("pointermove", 200, 150); at("pointerup", 200, 150);
        states.push(marks());
        key("0");
        key("ArrowRight");
        return [states, plot.querySelector(".tip").textContent, chart.querySelector("[aria-live]").textContent];
    """
    (whole, zoomed, back, dragged), tip, spoken = run(driver, script)
    assert whole == back and len({whole, zoomed, dragged}) == 3
    assert tip == spoken and "layers tuned: 8" in tip and "seconds of training: 108" in tip


def test_a_heat_map_is_blank_where_a_layer_has_no_value(driver: Any):
    script = """
        const plot = document.querySelector("[id^=drawn-figure5] .plot"), canvas = plot.querySelector("canvas");
        const cells = canvas.getContext("2d").getImageData(0, 0, 2, 1).data;
        const key = (name) => plot.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
        const tip = plot.querySelector(".tip"), tips = [];
        for (const name of ["ArrowRight", "ArrowLeft"]) { key(name); tips.push(tip.textContent); }
        return [[cells[3], cells[7]], tips];
    """
    opacities, tips = run(driver, script)
    assert opacities == [0, 255]
    assert tips == ["tiny_gqa 0, layer 1: 0.2", "tiny_gqa 0, layer 0: no value"]


def test_questions_are_counted_by_outcome_and_shown_with_pictures(driver: Any):
    script = """
        const root = document.getElementById("compare"), selects = root.querySelectorAll("select");
        root.scrollIntoView();
        const cells = [...root.querySelector("tbody tr").cells].map(cell => cell.textContent);
        selects[4].value = "gained";
        selects[4].dispatchEvent(new Event("change"));
        const cards = [...root.querySelectorAll("li")].map(item => item.textContent);
        return [cells, cards, root.querySelectorAll("img").length];
    """
    (_, total, first, second, *outcomes), cards, num_pictures = run(driver, script)
    gained, lost, _, right = map(int, outcomes)
    assert sum(map(int, outcomes)) == int(total) == 40
    assert float(first) == 100 * (lost + right) / 40 and float(second) == 100 * (gained + right) / 40
    assert len(cards) == gained == num_pictures > 0  # all forty questions are shown
    assert all("gained" in card for card in cards)


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_nothing_is_broken_wider_than_the_screen_or_beyond_the_reach_of_a_screen_reader(driver: Any, size: str):
    axe_package = pytest.importorskip("axe_core_python", reason="pip install 'vrx[browser]'")
    set_size(driver, size)
    run(driver, "for (const each of document.querySelectorAll('details')) each.open = true")
    assert run(driver, "return document.documentElement.scrollWidth <= window.innerWidth")
    if size == "phone":
        labels = """
            const cells = [...document.querySelectorAll(".stacks td")];
            return cells.map(cell => getComputedStyle(cell, "::before").content);
        """
        assert not {'""', "none", "normal"} & {*run(driver, labels)}  # what a heading said is beside each number
        first = "return [...document.querySelectorAll('.wide tbody th')].map(cell => getComputedStyle(cell).position)"
        assert set(run(driver, first)) == {"sticky"}
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert run(driver, broken) == 0
    run(driver, (importlib.resources.files(axe_package) / "axe.min.js").read_text(encoding="utf-8"))
    done = "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(done)"
    violations = driver.execute_async_script(done)["violations"]
    serious = [each for each in violations if each["impact"] in ("serious", "critical")]
    assert serious == [], [(each["id"], each["nodes"][0]["html"], each["help"]) for each in serious]


def test_nothing_was_requested_and_the_console_is_empty(driver: Any, reported: Path):
    """After all of the above."""
    index = reported / "report" / "index.html"
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    urls = {request["request"]["url"] for request in sent if request["documentURL"] == index.as_uri()}
    assert {url for url in urls if not url.startswith("data:")} == {index.as_uri()}
