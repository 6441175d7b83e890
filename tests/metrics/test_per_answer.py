"""The metrics give what the official scorers gave (tests/golden), and hold to their contract on any text.

Each golden file says in "source" which scorers, at which commit, made its scores, and in "rule" what they do.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrx.metrics import aggregate, answer_extraction, boxes, normalization, other_toolkits, per_answer
from vrx.metrics.answer import Answer

Metric = Callable[[Answer], float]
FILES = Path(__file__).parents[1].glob("golden/*.json")
GOLDEN = {path.stem: json.loads(path.read_text("utf-8")) for path in FILES}


# golden file -> name of a rule there -> the metric that implements it
RULES = {
    "ocrvqa": {
        "qwen_exact": per_answer.exact_match,
        "vlmevalkit_ocrvqa_accuracy": per_answer.exact_match,
        "qwen_relaxed_as_called": per_answer.relaxed_accuracy_as_called,
        "relaxed_target_is_gold": per_answer.relaxed_accuracy,
        "paper_repo_containment": per_answer.containment,
        "lmms_chartqa_relaxed": other_toolkits.relaxed_accuracy_unstripped,
        "docvqa_official_anls": per_answer.anls,
        "lmms_eval_anls": per_answer.anls,
        "vlmevalkit_docvqa_anls": per_answer.anls,
    },
    "relaxed_accuracy": {
        "qwen_evaluate_relaxed_accuracy(as called: target=prediction)": per_answer.relaxed_accuracy_as_called,
        "vlmevalkit(target=gold, prediction.strip())": per_answer.relaxed_accuracy,
        "relaxed_correctness(target=gold,prediction=pred)": other_toolkits.relaxed_accuracy_unstripped,
        "lmms_eval_chartqa(prediction,gold)": other_toolkits.relaxed_accuracy_unstripped,
    },
    "gqa": {
        "llava_convert_plus_gqa_eval": per_answer.gqa_match,
        "lmms_eval_exact_match(ignore_case,ignore_punctuation)": per_answer.exact_match_ignoring_punctuation,
        "vlmevalkit_accuracy": per_answer.exact_match,
        "qwen_vl": other_toolkits.gqa_match_qwen,
    },
    "textvqa": {
        "llava_m4c": per_answer.vqa_accuracy,
        "lmms_eval_textvqa": per_answer.vqa_accuracy,
        "vlmevalkit_vqa_score": other_toolkits.vqa_accuracy_vlmevalkit,
    },
    "mmbench": {
        "vlmevalkit_exact_matching": per_answer.mmbench_letter,
        "lmms_eval_can_infer(2023 rules)": other_toolkits.mmbench_letter_lmms,
        "strict_letter_equality": other_toolkits.letter_alone,
        "strict_first_char": other_toolkits.letter_first,
    },
    "scienceqa": {
        "official_score": per_answer.scienceqa_letter,
        "vlmevalkit_exact_matching": per_answer.mmbench_letter,
        "lmms_eval": other_toolkits.scienceqa_letter_lmms,
    },
    "mmlu": {
        "simple_evals_mmlu": other_toolkits.mmlu_letter_simple_evals,
        "lm_eval_mmlu_generative": per_answer.mmlu_letter,
        "first_char": per_answer.mmlu_first_letter,
        "llava_scienceqa_rule": per_answer.scienceqa_letter,
        "vlmevalkit_can_infer": per_answer.mmbench_letter,
    },
    "bbh": {
        "exact": per_answer.bbh_match,
        "lm_eval_zeroshot_strict": per_answer.bbh_match_normalised,
        "lm_eval_flexible_score": per_answer.bbh_match_lenient,
    },
    "tdiuc": {"official_score": per_answer.tdiuc_match},
}
RULES["docvqa"] = RULES["ocrvqa"]
BOX_RULES = {
    "conv_llava_padded": (per_answer.box_iou, per_answer.box_accuracy),
    "lmms_eval_rec": (per_answer.box_iou_unpadded, per_answer.box_accuracy_unpadded),
    "qwen_vl": (per_answer.box_iou_qwen, per_answer.box_accuracy_qwen),
}


def golden_answer(item: dict[str, Any]) -> Answer:
    gold, choices = item["answers"], item.get("choices", ())
    if "task" in item:
        choices = re.findall(r"^\([A-Z]\) (.*)$", item.get("question", ""), re.MULTILINE)
    if "gold_in_answerkey" in item:
        choices = GOLDEN["tdiuc"]["answerkey"]
    return Answer(
        id="golden",
        text=item["prediction"] or "",  # None: the prediction was missing, which is as wrong as an empty one
        references=(gold,) if isinstance(gold, str) else tuple(gold),
        choices=tuple(choices.values() if "A" in choices else choices),
        question_type=item.get("task", item.get("question_type", "")),
    )


def golden_cases() -> Iterator[Any]:
    for file, rules in RULES.items():
        for number, item in enumerate(GOLDEN[file]["items"]):
            published, answer = (
                {"official_score": item["official_score"]} | item.get("scores", {}),
                golden_answer(item),
            )
            for rule in sorted(rules.keys() & published.keys()):
                yield pytest.param(rules[rule], answer, published[rule], id=f"{file}-{number}-{rule}")


@pytest.mark.parametrize(("metric", "answer", "published"), list(golden_cases()))
def test_metric_equals_the_published_score(metric, answer, published):
    assert metric(answer) == pytest.approx(published, abs=1e-9)


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
    found = iou(Answer("golden", item["prediction"], (), **frame))
    assert found == pytest.approx(published["iou"] or 0.0, abs=1e-6)
    assert (found >= 0.5) == published["acc@0.5"]


def test_every_published_rule_has_its_metric():
    """But two of lmms-eval's that the golden files name and do not tell."""
    without = {
        "mmbench": {"lmms_eval_static"},
        "mmlu": {"lmms_extract_mcq_answer"},
        "bbh": {"lm_eval_flexible_extract"},
    }
    for file, rules in RULES.items():
        told = {rule for item in GOLDEN[file]["items"] for rule in item.get("scores") or {}}
        assert told - rules.keys() == without.get(file, set())


@pytest.mark.parametrize("row", GOLDEN["refcocog"]["padding_conversion"])
def test_padded_and_unpadded_frames_differ_as_published(row):
    frame = {"image_size": (row["width"], row["height"]), "box": tuple(row["pixel_box"])}
    padded = Answer("a", str(row["padded_square_norm"]), (), **frame)
    unpadded = Answer("a", str(row["unpadded_norm"]), (), **frame)
    assert per_answer.box_iou(padded) == pytest.approx(1, abs=0.01)  # an odd margin is split unevenly
    assert per_answer.box_iou_unpadded(unpadded) == pytest.approx(1)
    assert per_answer.box_iou_unpadded(padded) == pytest.approx(row["iou_if_padding_ignored"])


@pytest.mark.parametrize("item", GOLDEN["tdiuc"]["paper_repo_rule"]["items"])
def test_authors_tdiuc_rule_equals_their_scores(item):
    assert per_answer.tdiuc_match_authors(golden_answer(item)) == item["score"]


@pytest.mark.parametrize("item", GOLDEN["textvqa"]["answer_processor"])
def test_vqa_normalisation_equals_the_published_one(item):
    assert normalization.vqa_normalised(item["in"]) == item["out"]


@pytest.mark.parametrize("item", [item for item in GOLDEN["mmlu"]["items"] if "choice_logprobs" in item])
def test_mmlu_log_likelihood_equals_the_published_score(item):
    answer = Answer("a", "", (item["answers"],), choice_log_probs=tuple(item["choice_logprobs"]))
    assert per_answer.mmlu_log_likelihood(answer) == item["official_score"]


@pytest.mark.parametrize("case", GOLDEN["mmbench"]["circular_groups"], ids=lambda case: case["name"])
def test_circular_evaluation_equals_the_published_one(case):
    rotations = [
        Answer(str(r["index"]), r["prediction"], (r["GT"],), (r["A"], r["B"], r["C"], r["D"]), group="7")
        for r in case["rows"]
    ]
    assert [per_answer.mmbench_letter(answer) for answer in rotations] == case["vlmevalkit_vanilla_hits"]
    assert aggregate.circular(rotations, per_answer.mmbench_letter) == [case["vlmevalkit_circular_hit"]]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("two dogs", 2),
        ("Twenty-One", 21),
        ("one million two thousand", 1003002),  # a fault of the library: the two thousand count twice
        ("two hundred six", 206),
        ("point", 0),
        ("two point zero five", 2.05),
        ("two point ten", 2),
        ("thousand two", None),
        ("two thousand one million", None),
        ("two thousand thousand", None),
        ("²", None),
        ("someone", None),
        ("9" * 5000, None),
    ],
)
def test_number_words_read_as_word2number_reads_them(text, number):
    assert answer_extraction.number_from_words(text) == number


@pytest.mark.parametrize(
    ("text", "reference", "task", "score"),
    [
        ("They say the answer: B", "(B)", "snarks", 1),
        ("It was a kite, (A) or not", "(A)", "geometric_shapes", 1),
        ("A Kite!", "(B)", "geometric_shapes", 1),
        ("it is not plausible", "no", "sports_understanding", 1),
        ("it is not plausible", "no", "navigate", 0),
        ("Yes, he tells the truth", "No", "web_of_lies", 0),
        ("There are six", "6", "object_counting", 1),
        ("There are 12 of them, not 6", "6", "object_counting", 0),
        (") ] } because", ") ] }", "dyck_languages", 1),
        ("invalid, since", "invalid", "formal_fallacies", 1),
        ("b a: sorted, a b", "a b", "word_sorting", 1),
    ],
)
def test_lenient_bbh_reads_the_target_off_a_free_text(text, reference, task, score):
    answer = Answer("a", text, (reference,), choices=("circle", "kite"), question_type=task)
    assert per_answer.bbh_match_lenient(answer) == score


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_options_cannot_be_chosen(missing):
    answer = Answer("a", "C", ("C",), choices=("yes", "no", missing, missing))
    assert per_answer.mmbench_letter(answer) == per_answer.scienceqa_letter(answer) == 0
    assert per_answer.mmbench_letter(dataclasses.replace(answer, text="no", references=("B",))) == 1


def test_a_reference_outside_the_answer_key_is_never_matched():
    answer = Answer("a", "teal", ("teal",))
    assert per_answer.tdiuc_match(answer) == 1
    assert per_answer.tdiuc_match(dataclasses.replace(answer, choices=("red", "blue"))) == 0


@pytest.mark.parametrize(
    "metric", [per_answer.box_iou, per_answer.box_accuracy_unpadded, per_answer.mmlu_log_likelihood]
)
def test_metric_without_what_it_compares_names_the_answer(metric):
    with pytest.raises(ValueError, match="answer 'q17'"):
        metric(Answer("q17", "[0, 0, 1, 1]", ("A",)))


# ---- any text

unhurried = settings(deadline=None)  # a busy machine is no failure
PER_ANSWER = sorted(
    {metric for rules in RULES.values() for metric in rules.values()}
    | {metric for pair in BOX_RULES.values() for metric in pair}
    | {
        per_answer.tdiuc_match_authors,
        per_answer.mmlu_log_likelihood,
        other_toolkits.box_iou_tri,
        other_toolkits.box_iou_vlmevalkit,
    },
    key=lambda metric: metric.__name__,
)
PIECES = "[ [[ ] ( ) ),( , . : * - \n A B. Z 0.1 100 nan 1e999 inf % ² the one point million yes answer is İ ß"
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from([" ", *PIECES.split(" ")]), max_size=25).map("".join))
numbers = st.integers(1, 2000)


@pytest.mark.parametrize("metric", PER_ANSWER)
@unhurried
@given(text=texts, references=st.lists(texts, max_size=10), choices=st.lists(st.none() | texts, max_size=6))
def test_score_is_a_fraction_for_any_text(metric, text, references, choices):
    frame = {"image_size": (64, 48), "box": (1, 2, 30, 40)}
    score = metric(Answer("a", text, tuple(references), tuple(choices), choice_log_probs=(0.0,), **frame))
    assert isinstance(score, float)
    assert 0 <= score <= 1


@pytest.mark.parametrize(
    "piece",
    ["[", "[,", "[1,1,1,", "(", "(1,1),", ",", "9", " ", "a ", "answer ", "answer is *", ": ", ".", "one "],
)
def test_no_text_takes_long(piece):
    frame = {"image_size": (640, 480), "box": (1, 2, 3, 4)}
    answer = Answer("a", piece * 50_000, ("B", "two words"), ("x", "y"), choice_log_probs=(0.0, 1.0), **frame)
    started = time.perf_counter()
    for metric in PER_ANSWER:
        metric(answer)
    assert time.perf_counter() - started < 20


@unhurried
@given(text=texts)
def test_the_reference_itself_is_right(text):
    answer = Answer("a", text, (text,) * 10)
    for name in ("exact_match", "containment", "anls", "vqa_accuracy", "bbh_match", "tdiuc_match"):
        assert getattr(per_answer, name)(answer) == 1
    assert per_answer.tdiuc_match_authors(Answer("a", text, (text.strip(),))) == 1


@unhurried
@given(text=texts, references=st.lists(texts, min_size=1, max_size=4))
def test_exact_answers_are_contained_answers(text, references):
    answer = Answer("a", text, tuple(references))
    assert per_answer.exact_match(answer) <= per_answer.containment(answer)


@unhurried
@given(texts, st.lists(texts, min_size=10, max_size=10), st.randoms(use_true_random=False))
def test_order_of_references_does_not_matter(text, references, random):
    shuffled = random.sample(references, len(references))
    for metric in (per_answer.vqa_accuracy, per_answer.anls, per_answer.containment, per_answer.relaxed_accuracy):
        assert metric(Answer("a", text, tuple(references))) == metric(Answer("a", text, tuple(shuffled)))


def test_vqa_accuracy_grows_with_the_number_of_agreeing_annotators():
    scores = [per_answer.vqa_accuracy(Answer("a", "x", ("x",) * n + ("y",) * (10 - n))) for n in range(11)]
    assert scores == pytest.approx([0, 0.3, 0.6, 0.9, *[1] * 7])


# ---- boxes


@unhurried
@given(numbers, numbers, st.tuples(*[st.floats(0, 1)] * 4))
def test_gold_box_rendered_exactly_scores_one_in_every_frame(width, height, corners):
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


@unhurried
@given(texts)
def test_readers_find_what_the_published_patterns_find(text):
    def floats(groups: list[str]) -> tuple[float, ...] | None:
        try:
            return tuple(float(group) for group in groups)
        except ValueError:
            return None

    bracketed = re.findall(r"\[*\[(.*?),(.*?),(.*?),(.*?)\]\]*", text)[:1]
    expected = floats(list(bracketed[0])) if bracketed else None
    found = boxes.read_padded(text, (1000, 1000))
    assert (found is None) == (expected is None)
    if found and expected and sum(expected) < 4:
        assert found == pytest.approx([1000 * value for value in expected], rel=1e-5)
    pairs = re.findall(r"\((.*?)\),\((.*?)\)", text)[:1]
    coordinates = [pair.split(",") for pair in pairs[0]] if pairs else []
    readable = bool(pairs) and all(len(pair) == 2 and floats(pair) is not None for pair in coordinates)
    assert (boxes.read_qwen(text, (999, 999)) is not None) == readable


@unhurried
@given(*[st.tuples(*[st.floats(-2, 3)] * 4)] * 2)
def test_iou_is_a_symmetric_fraction(a, b):
    assert 0 <= boxes.iou(a, b) <= 1
    assert boxes.iou(a, b) == boxes.iou(b, a)


# ---- aggregates

scored = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from("pq"), st.sampled_from((0.0, 0.3, 1.0))),
    min_size=1,
    max_size=30,
)


@unhurried
@given(scored, st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_aggregates_do_not_depend_on_the_order_of_answers(rows, harmonic, normalised, random):
    def aggregates(rows: list[tuple[str, str, float]]) -> list[float]:
        answers = [Answer(str(i), f"{row[2]}", (row[1],), question_type=row[0]) for i, row in enumerate(rows)]
        scores = [row[2] for row in rows]
        per_type = aggregate.mean_per_type(answers, scores, harmonic=harmonic, normalised=normalised)
        return [aggregate.mean(scores), aggregate.standard_error(scores), per_type]

    assert aggregates(rows) == aggregates(random.sample(rows, len(rows)))


@unhurried
@given(st.lists(st.tuples(st.sampled_from("uvw"), st.booleans()), min_size=1, max_size=20))
def test_circular_score_is_that_of_the_worst_rotation(rows):
    answers = [Answer(str(i), "BA"[right], ("A",), group=group) for i, (group, right) in enumerate(rows)]
    worst = {group: min(right for other, right in rows if other == group) for group, _ in rows}
    assert aggregate.circular(answers, per_answer.bbh_match) == [float(right) for right in worst.values()]


def test_answers_without_a_group_are_questions_of_their_own():
    answers = [Answer("1", "A", ("A",)), Answer("2", "B", ("A",))]
    assert aggregate.circular(answers, per_answer.bbh_match) == [1.0, 0.0]


def test_mean_per_type_variants_by_hand():
    rows = [("color", "red", 1.0), ("color", "red", 1.0), ("color", "teal", 0.0), ("count", "2", 0.5)]
    answers = [Answer(str(i), "", (gold,), question_type=kind) for i, (kind, gold, _) in enumerate(rows)]
    scores = [score for *_, score in rows]
    assert aggregate.mean_per_type(answers, scores) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert aggregate.mean_per_type(answers, scores, normalised=True) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert aggregate.mean_per_type(answers, scores, harmonic=True) == pytest.approx(2 / (3 / 2 + 2))
    assert aggregate.mean_per_type(answers, [1.0] * 4, harmonic=True) == 1.0
    assert aggregate.mean_per_type(answers, [1.0, 1.0, 1.0, 0.0], harmonic=True) < 1e-9


def test_references_outside_the_answer_key_count_as_one_in_the_normalised_mean():
    golds = ("red", "teal", "mauve")
    answers = [Answer(gold, gold, (gold,), choices=("red",), question_type="color") for gold in golds]
    scores = [per_answer.tdiuc_match(answer) for answer in answers]
    assert aggregate.mean_per_type(answers, scores, normalised=True) == 0.5


typed = st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"), st.sampled_from("abcde"))


@unhurried
@given(st.lists(typed, min_size=1, max_size=30), st.sets(st.sampled_from("abcd"), min_size=1))
def test_means_per_type_are_those_of_tdiucs_script(rows, key):
    """In percent and with its 1e-10 for a type at 0: types of (reference or -1 where the key lacks it, text)."""
    types: dict[str, list[tuple[str | int, str]]] = {}
    for kind, gold, text in rows:
        types.setdefault(kind, []).append((gold if gold in key else -1, text))
    plain = [100 * sum(gold == text for gold, text in pairs) / len(pairs) + 1e-10 for pairs in types.values()]
    normalised = []
    for pairs in types.values():
        shares = []
        for unique in {gold for gold, _ in pairs}:
            texts = [text for gold, text in pairs if gold == unique]
            shares.append(sum(text == unique for text in texts) / len(texts))
        normalised.append(100 * sum(shares) / len(shares) + 1e-10)
    answers = [
        Answer(str(number), text, (gold,), choices=(gold if gold in key else "-",), question_type=kind)
        for number, (kind, gold, text) in enumerate(rows)
    ]
    scores = [per_answer.tdiuc_match(answer) for answer in answers]
    for each, expected in ((False, plain), (True, normalised)):
        found = aggregate.mean_per_type(answers, scores, normalised=each)
        assert 100 * found == pytest.approx(sum(expected) / len(expected), abs=1e-6)
        found = aggregate.mean_per_type(answers, scores, normalised=each, harmonic=True)
        assert 100 * found == pytest.approx(len(expected) / sum(1 / value for value in expected), abs=1e-6)


def test_standard_error_by_hand():
    assert aggregate.standard_error([1.0]) == 0
    assert aggregate.standard_error([0.0, 1.0, 1.0, 0.0]) == pytest.approx(math.sqrt(1 / 3 / 4))


def test_mean_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no answers"):
        aggregate.mean([])
