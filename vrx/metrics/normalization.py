"""How the official scorers normalise a text before they compare it, and how they measure similarity.

Every function takes any text, never raises on it, and is written from the published rule that it names.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def similarity(text: str, gold: str) -> float:
    """1 - edits / length of the longer string, or 0 where that must be below one half (DocVQA's script).

    Case and repeated blanks are no edits; the length is that of the raw strings, in upper case ("ß" is two).
    """
    length = max(len(text.upper()), len(gold.upper()))
    text, gold = " ".join(text.lower().split()), " ".join(gold.lower().split())
    if 2 * abs(len(text) - len(gold)) > length:
        return 0.0
    return 1 - Levenshtein.distance(text, gold) / length if length else 1.0


def plain_number(text: str) -> float | None:
    """The number that the whole text is, a percentage as a fraction ("5%" is 0.05), else None."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def unpunctuated(text: str) -> str:
    """Lower-cased, ASCII punctuation deleted, blanks kept: lm-eval's ignore_case and ignore_punctuation."""
    return text.lower().translate(_ASCII_PUNCTUATION)


def relaxed_equal(target: str, prediction: str) -> bool:
    """Whether two numbers differ by at most 5 % of the target, or two texts in case alone (ChartQA)."""
    wanted, got = plain_number(target), plain_number(prediction)
    if got is not None and wanted:
        return abs(got - wanted) / abs(wanted) <= 0.05
    return prediction.lower() == target.lower()


def bbh_normalised(text: str) -> str:
    r"""Lower-cased, without a final full stop and without any `,` `"` `\` or newline (lm-eval, BBH)."""
    return re.sub(r'[,\n\\"]', "", re.sub(r"\.$", "", text)).lower()


# ---- VQA: the EvalAI normalisation

_DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_VQA_NUMBERS = {word: str(value) for value, word in enumerate([*_DIGIT_WORDS, "ten"])} | {"none": "0"}
_VQA_PUNCTUATION = ';/[]"{}()=+\\_-><@`!'
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
    he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't
    must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've
    somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd
    something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're
    they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've
    who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll
    y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTED = {  # each word with one of its apostrophes forgotten -> the word
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS.split()
    for place, letter in enumerate(word)
    if letter == "'"
}
_CONTRACTED["somebody'd"] = "somebodyd"  # the published table has this one the wrong way round


def vqa_normalised(text: str) -> str:
    """The answer as the EvalAI server of VQA and TextVQA sees it (LLaVA's m4c_evaluator.py, from Pythia).

    Lower case, number words to ten as digits, no articles, apostrophes put back into contractions. Surprises,
    all of them published behaviour: a mark that stands beside a blank anywhere in the text is deleted, any
    other becomes a blank; "'s" is split off; only the first 32 full stops go, and none before a digit; "im"
    stays (the table has "Im", but texts are lower-cased first).
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = text.replace("\n", " ").replace("\t", " ").strip()
    beside_blank = {mark for mark in _VQA_PUNCTUATION if mark + " " in text or " " + mark in text}
    text = text.translate({ord(mark): "" if mark in beside_blank else " " for mark in _VQA_PUNCTUATION})
    return _vqa_words(re.sub(r"\.(?!\d)", "", text, count=32))


def vqa_normalised_vlmevalkit(text: str) -> str:
    """The same as VLMEvalKit has it: commas and question marks are marks like the others, "'s" stays, and a full stop
    goes only where no digit stands on either side. A comma between digits anywhere deletes all marks."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    delete_all = re.search(r"\d,\d", text) is not None
    marks = {
        ord(mark): "" if delete_all or mark + " " in text or " " + mark in text else " "
        for mark in (*_VQA_PUNCTUATION, ",", "?")
    }
    return _vqa_words(re.sub(r"(?<!\d)\.(?!\d)", "", text.translate(marks), count=32))


def _vqa_words(text: str) -> str:
    words = [_VQA_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTED.get(word, word) for word in words if word not in ("a", "an", "the"))


def soft_score(text: str, golds: Sequence[str]) -> float:
    """VQA's soft accuracy of a normalised text: the mean over the references left out of min(1, agreeing / 3)."""
    agreeing = golds.count(text)
    if not agreeing:
        return 0.0
    one_left_out, another_left_out = min(1.0, (agreeing - 1) / 3), min(1.0, agreeing / 3)
    return (agreeing * one_left_out + (len(golds) - agreeing) * another_left_out) / len(golds)
