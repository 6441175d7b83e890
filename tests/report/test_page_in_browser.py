"""The page in a real browser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.report_runs import BUNNY


@pytest.mark.slow
def test_the_page_works_in_a_browser(reported: Path, tmp_path: Path):
    """Every table is shown, a click sorts, nothing is requested from the network, the console stays empty."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver_file = shutil.which("chromedriver")
    if not browser or not driver_file:
        pytest.skip("no Chromium with chromedriver: apt-get install chromium chromium-driver")
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *(
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1400,1000",
            f"--user-data-dir={tmp_path / 'u'}",
        ),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    index = reported / "report" / "index.html"
    with webdriver.Chrome(options=options, service=Service(driver_file)) as driver:
        driver.get(index.as_uri())
        for name in (f"table1_{BUNNY}", f"table2_{BUNNY}", "table1_tiny", "table2_tiny", "all-runs", "figure3"):
            assert driver.find_element(By.ID, name).is_displayed()
        table = driver.find_element(By.CSS_SELECTOR, f"#table1_{BUNNY.replace('.', chr(92) + '.')} table")

        def labels() -> list[str]:
            return [cell.text for cell in table.find_elements(By.CSS_SELECTOR, "tbody td:first-child")]

        def values() -> list[str]:
            cells = table.find_elements(By.CSS_SELECTOR, "tbody td:nth-child(7)")
            return [cell.get_attribute("data-value") for cell in cells]

        original, button = labels(), table.find_elements(By.CSS_SELECTOR, "thead button")[6]
        assert original[:2] == ["All layers", "Sparse & Uniform (2 seeds)"]
        for order in ("descending", "ascending"):
            button.click()
            assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == order
            numbers = [float(value) for value in values() if value]
            assert numbers == sorted(numbers, reverse=order == "descending")
            assert len(numbers) == 4 and "Chance" in labels()[:4]  # three rows of runs and the chance level
            assert values()[4:] == [""] * (len(original) - 4)  # missing values stay at the end
        button.click()
        assert labels() == original
        for summary in driver.find_elements(By.TAG_NAME, "summary")[:3]:
            summary.click()
        pictures = driver.find_elements(By.TAG_NAME, "img")
        assert len(pictures) > 20
        broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
        assert driver.execute_script(broken) == 0
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        driver.save_screenshot(str(tmp_path / "page.png"))
        assert driver.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        urls = {request["request"]["url"] for request in sent if request["documentURL"] == index.as_uri()}
        assert {url for url in urls if not url.startswith("data:")} == {index.as_uri()}
