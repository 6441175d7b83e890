"""Figure 5: the image attention of each sample and layer as a heat map."""

from __future__ import annotations

import math
from pathlib import Path

from vrx.report.figures import image_attention
from vrx.report.figures.figure import FigureInputs
from vrx.report.paper import load_paper
from vrx.runs import files


def test_a_heat_map_shows_each_sample_and_layer(tmp_path: Path):
    samples = [{"benchmark": name, "id": str(number)} for name in ("b", "a") for number in range(3)]
    values = [[10.0 * row + layer for layer in range(4)] for row in range(6)]
    path = tmp_path / "score" / "tiny" / "all-32_100pct_seed0_0a" / image_attention.FILE
    files.write_json(path, {"made_from": "x", "samples": samples, "scores": values})
    broken = tmp_path / "score" / "tiny" / "z" / image_attention.FILE
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
