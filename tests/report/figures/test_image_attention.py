"""Figure 5: the image attention of each sample and layer as a heat map."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from vrx.report.figures import image_attention
from vrx.report.figures.figure import FigureInputs
from vrx.report.paper import load_paper
from vrx.runs import files, importance_files


def test_a_heat_map_shows_each_sample_and_layer(tmp_path: Path):
    samples = [{"benchmark": name, "id": str(number)} for name in ("b", "a") for number in range(3)]
    values = [[10.0 * row + layer for layer in range(4)] for row in range(6)]
    path = tmp_path / "score" / "tiny" / "all-32_100pct_seed0_0a" / importance_files.SAMPLE_SCORES_NAME
    files.write_json(path, {"made_from": "x", "samples": samples, "scores": values})
    broken = tmp_path / "score" / "tiny" / "z" / importance_files.SAMPLE_SCORES_NAME
    files.write_json(broken, {"samples": samples, "scores": [[math.nan]] * 6})
    (heat,) = image_attention.figure5(FigureInputs([], load_paper(), (tmp_path,), "tiny"))
    assert image_attention.figure5(FigureInputs([], load_paper(), (tmp_path,), "other")) == []
    assert heat.benchmarks == [("b", 3), ("a", 3)]
    (chart,) = heat.charts()
    assert chart.columns == ("layer", "sample", "image attention")
    assert chart.rows[5] == (1, "b 1", 11.0)
    assert "a (3 samples): 0: 40.0000" in heat.as_text()
    for form, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert heat.draw(form) == heat.draw(form)
        assert heat.draw(form).startswith(magic)


def test_layers_without_attention_stay_blank(tmp_path: Path):
    samples = [{"benchmark": "b", "id": str(number)} for number in range(2)]
    path = tmp_path / "score" / "tiny" / "all-4_100pct_seed0_0a" / importance_files.SAMPLE_SCORES_NAME
    files.write_json(path, {"samples": samples, "scores": [[None, 0.1, None, 0.3], [None, 0.3, None, 0.5]]})
    (heat,) = image_attention.figure5(FigureInputs([], load_paper(), (tmp_path,), "tiny"))
    assert heat.as_text().endswith("b (2 samples): 0: –, 1: 0.2000, 2: –, 3: 0.4000\n")
    assert heat.colour_range() == (0.1, 0.5)
    (chart,) = heat.charts()
    assert chart.rows == ((1, "b 0", 0.1), (3, "b 0", 0.3), (1, "b 1", 0.3), (3, "b 1", 0.5))
    assert heat.draw("png").startswith(b"\x89PNG")


def test_a_model_without_image_attention_is_left_out_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "score" / "tiny" / "all-2_100pct_seed0_0a" / importance_files.SAMPLE_SCORES_NAME
    files.write_json(path, {"samples": [{"benchmark": "b", "id": "0"}], "scores": [[None, None]]})
    assert image_attention.figure5(FigureInputs([], load_paper(), (tmp_path,))) == []
    assert "no image attention: the pictures of this model have no tokens in the text" in capsys.readouterr().err
