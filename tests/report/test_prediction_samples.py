"""The predictions that are shown."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from support.report_runs import ALL, SPARSE, write_run

from vrx.report.prediction_samples import SampleCounts, prediction_galleries, thumbnail


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("predictions")
    return [write_run(root, layers, columns=("gqa", "mmbench")) for layers in (ALL, SPARSE)]


def test_worst_and_random_predictions_are_apart_and_the_random_ones_equal_in_every_run(runs):
    counts = SampleCounts()
    galleries = prediction_galleries(runs)
    assert galleries == prediction_galleries(runs)
    assert len(galleries) == 4
    random_ids: dict[str, set[tuple[str, ...]]] = {}
    for gallery in galleries:
        worst, random = ([p for p in gallery.predictions if p.reason == reason] for reason in ("worst", "random"))
        assert (len(worst), len(random)) == (counts.num_worst, counts.num_random)
        assert {p.id for p in worst}.isdisjoint(p.id for p in random)
        assert all(p.picture.startswith("data:image/") for p in gallery.predictions)
        assert max(p.score for p in worst) == 0  # more answers are wrong than are shown
        random_ids.setdefault(gallery.benchmark, set()).add(tuple(p.id for p in random))
    assert all(len(ids) == 1 for ids in random_ids.values())


def test_pictures_are_small(runs):
    for gallery in prediction_galleries(runs, SampleCounts(side=48)):
        for prediction in gallery.predictions:
            content = base64.b64decode(prediction.picture.partition(",")[2])
            with Image.open(io.BytesIO(content)) as image:
                assert max(image.size) <= 48


def test_a_file_that_is_not_a_picture_has_no_thumbnail(tmp_path: Path):
    (tmp_path / "a.png").write_text("text")
    assert thumbnail(tmp_path / "a.png", 96) == ""
    assert thumbnail(tmp_path / "missing.png", 96) == ""
