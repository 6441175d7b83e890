"""Box metrics equal the official scorers (tests/golden) in every coordinate frame."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.golden_metrics import BOX_RULES, GOLDEN, Metric, no_deadline, texts

from vrx.metrics import boxes, other_toolkits, per_answer
from vrx.metrics.answer import Answer

numbers = st.integers(1, 2000)


@pytest.mark.parametrize("rule", BOX_RULES)
@pytest.mark.parametrize("item", GOLDEN["refcocog"]["items"])
def test_box_metrics_equal_the_published_scores(item, rule):
    gold, published, (iou, accuracy) = item["answers"], item["scores"][rule], BOX_RULES[rule]
    frame = {"image_size": (gold["width"], gold["height"]), "box": tuple(gold["bbox_xyxy_pixels"])}
    answer = Answer("golden", item["prediction"], (), **frame)
    official = published["iou"] if isinstance(published["iou"], float) else 0.0  # "NaN", "ZeroDivisionError"
    assert iou(answer) == pytest.approx(official, abs=1e-6)
    assert accuracy(answer) == float(published["acc@0.5"] is True)


@pytest.mark.parametrize(
    ("rule", "iou"),
    [("tri_vlm_evaluation", other_toolkits.box_iou_tri), ("vlmevalkit", other_toolkits.box_iou_vlmevalkit)],
)
@pytest.mark.parametrize("item", GOLDEN["refcocog"]["items"])
def test_box_metrics_of_toolkits_equal_the_published_scores(item, rule, iou):
    gold, published = item["answers"], item["scores"][rule]
    frame = {"image_size": (gold["width"], gold["height"]), "box": tuple(gold["bbox_xyxy_pixels"])}
    score = iou(Answer("golden", item["prediction"], (), **frame))
    assert score == pytest.approx(published["iou"] or 0.0, abs=1e-6)
    assert (score >= 0.5) == published["acc@0.5"]


@pytest.mark.parametrize("row", GOLDEN["refcocog"]["padding_conversion"])
def test_padded_and_unpadded_frames_give_the_published_overlaps(row):
    frame = {"image_size": (row["width"], row["height"]), "box": tuple(row["pixel_box"])}
    padded = Answer("a", str(row["padded_square_norm"]), (), **frame)
    unpadded = Answer("a", str(row["unpadded_norm"]), (), **frame)
    assert per_answer.box_iou(padded) == pytest.approx(1, abs=0.01)  # an odd margin is split unevenly
    assert per_answer.box_iou_unpadded(unpadded) == pytest.approx(1)
    assert per_answer.box_iou_unpadded(padded) == pytest.approx(row["iou_if_padding_ignored"])


@no_deadline
@given(numbers, numbers, st.tuples(*[st.floats(0, 1)] * 4))
def test_the_exact_reference_box_scores_one_in_every_frame(width, height, corners):
    x1, x2 = sorted((corners[0] * width, corners[2] * width))
    y1, y2 = sorted((corners[1] * height, corners[3] * height))
    if x2 - x1 < 1 or y2 - y1 < 1:
        return
    side, left, top = max(width, height), max(0, height - width) // 2, max(0, width - height) // 2
    padded = [(x1 + left) / side, (y1 + top) / side, (x2 + left) / side, (y2 + top) / side]
    unpadded = [x1 / width, y1 / height, x2 / width, y2 / height]
    qwen = [999 * value for value in unpadded]

    def score(metric: Metric, template: str, values: list[float]) -> float:
        text = template.format(*(f"{value:.9f}" for value in values))
        return metric(Answer("a", text, (), image_size=(width, height), box=(x1, y1, x2, y2)))

    if sum(padded) < 3.999:  # else read as thousandths
        assert score(per_answer.box_iou, "[{}, {}, {}, {}]", padded) == pytest.approx(1, abs=0.002)
    assert score(per_answer.box_iou_unpadded, "It is [ {},{},  {}, {} ].", unpadded) == pytest.approx(1, abs=0.002)
    assert score(per_answer.box_iou_qwen, "<box>({},{}),({},{})</box>", qwen) == pytest.approx(1, abs=0.002)


@no_deadline
@given(texts)
def test_boxes_are_read_from_the_same_texts_as_by_the_published_patterns(text):
    def floats(groups: list[str]) -> tuple[float, ...] | None:
        try:
            return tuple(float(group) for group in groups)
        except ValueError:
            return None

    bracketed = re.findall(r"\[*\[(.*?),(.*?),(.*?),(.*?)\]\]*", text)[:1]
    expected = floats(list(bracketed[0])) if bracketed else None
    box = boxes.read_padded(text, (1000, 1000))
    assert (box is None) == (expected is None)
    if box and expected and sum(expected) < 4:
        assert box == pytest.approx([1000 * value for value in expected], rel=1e-5)
    pairs = re.findall(r"\((.*?)\),\((.*?)\)", text)[:1]
    coordinates = [pair.split(",") for pair in pairs[0]] if pairs else []
    readable = bool(pairs) and all(len(pair) == 2 and floats(pair) is not None for pair in coordinates)
    assert (boxes.read_qwen(text, (999, 999)) is not None) == readable


@no_deadline
@given(*[st.tuples(*[st.floats(-2, 3)] * 4)] * 2)
def test_iou_is_a_symmetric_fraction(a, b):
    assert 0 <= boxes.iou(a, b) <= 1
    assert boxes.iou(a, b) == boxes.iou(b, a)


@pytest.mark.parametrize("text", ["[1e-1, 0.2, 5E-1, +0.8]", "[.1 .2 .5 .8]", "1e-1 2e-1 then 5e-1 and 8e-1"])
def test_numbers_with_signs_and_exponents_make_a_box(text: str):
    gold = Answer(id="1", text=text, references=(), box=(10.0, 20.0, 50.0, 80.0), image_size=(100, 100))
    assert other_toolkits.box_iou_vlmevalkit(gold) == pytest.approx(1.0)
