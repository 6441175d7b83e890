"""A real Chromium for the report page. As a program it takes the pictures of the page that docs/ shows:

    python tests/support/browser.py docs/results/tiny docs/pictures

The page is the report of the runs in the first folder, or a page that is there already (outputs/report/index.html).
"""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from PIL import Image

SIZES = {"desktop": (1280, 900, 1), "phone": (390, 844, 2)}  # width, height, pixels a CSS pixel
PARTS = {"summary": "#summary", "cost": "#regions", "questions": "#predictions", "curves": "#curves"}
MAX_HEIGHT = 1800  # CSS pixels of a picture
COLOURS = 128  # of a picture, so that it takes a third of the bytes


def find_browser() -> tuple[str, str] | None:
    """The programs Chromium and chromedriver; None where one is missing."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextlib.contextmanager
def open_page(index: Path, folder: Path) -> Iterator[Any]:
    """A driver that shows a page, with logs of its console and requests; the browser's own files are in a folder."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    found = find_browser()
    assert found, "no Chromium with chromedriver: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
        *("--disable-component-update", "--hide-scrollbars", "--window-size=1400,1000", f"--user-data-dir={folder}/u"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=Service(found[1])) as driver:
        driver.get(index.absolute().as_uri())
        yield driver


def set_size(driver: Any, size: str) -> None:
    """Show the page as on a screen of one of `SIZES`."""
    width, height, scale = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": size == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def picture(driver: Any, selector: str) -> bytes:
    """A part of the page as PNG, whatever of it is in the window."""
    script = """
        document.getElementById("filters").style.position = "static";
        document.querySelector(arguments[0]).scrollIntoView();
        for (const image of document.images) image.loading = "eager";
        const frame = document.querySelector(arguments[0]).getBoundingClientRect();
        return [frame.x + scrollX, frame.y + scrollY, frame.width, frame.height];
    """
    x, y, width, height = driver.execute_script(script, selector)
    clip = {"x": x, "y": y, "width": width, "height": min(height, MAX_HEIGHT), "scale": 1}
    arguments = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", arguments)["data"])


def take_pictures(index: Path, target: Path) -> None:
    """A picture of each part and size, `page_<size>_<part>.png`; parts that the page does not have are left out."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, open_page(index, Path(folder)) as driver:
        for size in SIZES:
            set_size(driver, size)
            driver.get(index.absolute().as_uri())
            for name, selector in PARTS.items():
                if driver.execute_script("return document.querySelector(arguments[0]) !== null", selector):
                    image = Image.open(io.BytesIO(picture(driver, selector))).convert("RGB").quantize(COLOURS)
                    image.save(target / f"page_{size}_{name}.png", optimize=True)


def report(results: Path, folder: Path) -> Path:
    """The page of the runs in a folder of results, with the questions and pictures of the embedded world."""
    from support.composing import composed

    from vrx.evaluation import evaluate_run

    options = [f"runtime.results=[{results.absolute()}]", "wandb.mode=disabled"]
    with contextlib.chdir(folder):
        evaluate_run.make_world(composed([]))
        subprocess.run([sys.executable, "-m", "vrx.main", "report", *options], check=True)
    return folder / "outputs" / "report" / "index.html"


if __name__ == "__main__":
    source, pictures = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as temporary:
        take_pictures(report(source, Path(temporary)) if source.is_dir() else source, pictures)
