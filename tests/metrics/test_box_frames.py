"""Boxes in the coordinates of current models: whatever the form, the same box has the same score."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.golden_metrics import no_deadline, texts

from vrx.metrics import other_toolkits
from vrx.metrics.answer import Answer

FORMS = {
    "plain": "[{}, {}, {}, {}]",
    "JSON": '```json\n[{{"bbox_2d": [{}, {}, {}, {}], "label": "2 cats"}}]\n```',
    "InternVL": "<ref>a cat</ref><box>[[{}, {}, {}, {}]]</box>",
    "Qwen2-VL": "({},{}),({},{})",
}
SIZE, GOLD = (640, 480), (64.0, 48.0, 320.0, 240.0)  # tenths and halves of the picture


def scored(text: str, frame: tuple[float, float] | None = None) -> Answer:
    return Answer("a", text, (), image_size=SIZE, box=GOLD, box_frame=frame)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("frame", [(1000, 1000), (560, 420), (28, 2800)])
def test_same_box_scores_the_same_in_any_form_and_frame(form: str, frame: tuple[int, int]) -> None:
    width, height = frame
    text = FORMS[form].format(width / 10, height / 10, width / 2, height / 2)
    assert other_toolkits.box_iou_in_frame(scored(text, frame)) == pytest.approx(1)
    assert other_toolkits.box_accuracy_in_frame(scored(text, frame)) == 1
    assert other_toolkits.box_iou_in_frame(scored(text, (width * 4, height * 4))) < 0.5


def test_location_tokens_are_top_left_bottom_right() -> None:
    text = "<loc0102><loc0102><loc0512><loc0512> cat"
    assert other_toolkits.box_iou_loc(scored(text)) == pytest.approx(1, abs=0.01)
    swapped = Answer("a", "<loc0000><loc0512><loc1024><loc1024>", (), image_size=(100, 200), box=(50, 0, 100, 200))
    assert other_toolkits.box_accuracy_loc(swapped) == 1


@no_deadline
@given(texts, st.tuples(st.floats(0, 2000), st.floats(0, 2000)))
def test_any_text_has_a_score(text: str, frame: tuple[float, float]) -> None:
    for metric in (other_toolkits.box_iou_in_frame, other_toolkits.box_iou_loc):
        assert 0 <= metric(scored(text, frame)) <= 1
