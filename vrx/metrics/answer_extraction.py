"""Extraction of the answer from a free text: a number, an option letter or a BIG-bench-Hard target.

Every function takes any text, never raises on it, and is written from the published rule that it names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import dropwhile, takewhile

# ---- numbers

_DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SCALES = {"billion": 10**9, "million": 10**6, "thousand": 1000}  # in the order they must be said
_WORD_VALUES = (
    {word: value for value, word in enumerate([*_DIGIT_WORDS, *_TEENS.split()])}
    | {word: 10 * tens for tens, word in enumerate(_TENS.split(), start=2)}
    | {"hundred": 100}
    | _SCALES
)


def number_from_words(text: str) -> int | float | None:
    """The number that the number words in a text spell; None if there is none or it is malformed.

    The rules of word2number 1.1, which the paper's authors and lm-eval use, faults included: other words are
    skipped ("two dogs" is 2), separate words add up ("five five" is 10), "point" alone is 0, and
    "one million two thousand" is 1003002. The package itself is unmaintained, is distributed as source only and
    reports most texts by an exception.
    """
    text = text.replace("-", " ").lower()
    if text.isdigit():
        try:
            return int(text)
        except ValueError:  # a superscript, or thousands of digits
            return None
    words = [word for word in text.split() if word in _WORD_VALUES or word == "point"]
    if not words or any(words.count(word) > 1 for word in (*_SCALES, "point")):
        return None
    point = words.index("point") if "point" in words else len(words)
    words, decimals = words[:point], words[point + 1 :]
    if len(words) == 1:
        total = _WORD_VALUES[words[0]]
    else:
        ends = [words.index(scale) for scale in _SCALES if scale in words]
        starts = [0, *(end + 1 for end in ends)]
        if ends != sorted(ends) or any(end in starts for end in ends):
            return None  # scales out of order, or one without a multiplier
        total = sum(_group(words[a:b]) * _WORD_VALUES[words[b]] for a, b in zip(starts, ends, strict=False))
        tails = [words[end + 1 :] for end in reversed(ends)] if ends else [words]
        total += next((_group(tail) for tail in tails if tail), 0)
    if decimals and all(word in _DIGIT_WORDS for word in decimals):
        return total + float("0." + "".join(str(_WORD_VALUES[word]) for word in decimals))
    return total


def _group(words: Sequence[str]) -> int:
    """The value of a few number words without a scale among them ("two hundred six", also "five five")."""
    first, *rest = (_WORD_VALUES[word] for word in words)
    if len(rest) == 1 and 100 not in (first, *rest):
        return first + rest[0]
    return first * rest[0] + sum(rest[1:]) if 1 <= len(rest) <= 3 else first


def tdiuc_equal(text: str, gold: str) -> bool:
    """Whether text and gold answer are equal after the paper authors' normalisation for TDIUC.

    Number words become numbers ("two dogs" is 2). Otherwise outer blanks and newlines go and the first letter
    alone is lower-cased; the gold answer's too, but not if the text was a number.
    """

    def lowered(text: str) -> str:
        return (text[:1].lower() + text[1:]).strip().replace("\n", "")

    text = text.strip()
    number, gold_number = number_from_words(text), number_from_words(gold)
    gold = gold if gold_number is None else str(gold_number)
    return str(number) == gold if number is not None else lowered(text) == lowered(gold)


def first_number(text: str) -> str | None:
    """The first number of a text, in digits, or else spelled in words.

    Digits as in lm-eval's filter for BBH (a lone hyphen passes for a number); number words are whole words
    here, where lm-eval also finds the "one" in "someone" but neither "six" nor "eight".
    """
    if digits := re.search(r"[-0-9]+", text):
        return digits.group()
    words = dropwhile(lambda word: word not in _WORD_VALUES, re.findall(r"[a-z]+", text.lower()))
    number = number_from_words(" ".join(takewhile(lambda word: word in _WORD_VALUES or word == "and", words)))
    return None if number is None else str(number)


# ---- multiple choice

_LLAVA_LETTERS = ("A", "B", "C", "D", "E")
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_MARKS_TO_BLANKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))


def llava_letter(text: str) -> str | None:
    """The letter A-E that the text is or begins with ("B. ..."), or names in its only "The answer is B.".

    LLaVA's eval_science_qa.py, and as strict: nothing is stripped, "B." alone and lower case fail, and in the
    sentence any one character, but not the end of the text, may follow the letter.
    """
    if text in _LLAVA_LETTERS:
        return text
    if text[:1] in _LLAVA_LETTERS and text[1:3] == ". ":
        return text[0]
    letters = re.findall(r"The answer is ([A-Z]).", text)
    return letters[0] if len(letters) == 1 and letters[0] in _LLAVA_LETTERS else None


def inferred_letter(text: str, options: Mapping[str, str]) -> str | None:
    """The option that the text names by letter, or else by wording; None if undecided, "Z" for a refusal.

    VLMEvalKit's can_infer. A letter counts if it is the only option letter among the words and stands among
    the last four, or if it follows "answer is" (even as the start of a word). A wording counts if the text
    contains it and no other option's, and is not longer than twice all options together.
    """
    if "Failed to obtain answer via API" not in text:
        if any(refusal in text for refusal in _REFUSALS):
            return "Z"
        words = text.translate(_MARKS_TO_BLANKS).split()
        named = [letter for letter in options if letter in words]
        if len(named) == 1 and words.index(named[0]) > len(words) - 5:
            return named[0]
        if not named and "Z" in words:
            return "Z"
        match = re.search(r"answer\s+is\s+\**([ABCD])", text, re.IGNORECASE)
        if match and match.group(1).upper() in options:
            return match.group(1).upper()
    text = text.lower()
    if len(text) > 2 * sum(len(wording) for wording in options.values()):
        return None
    contained = [letter for letter, wording in options.items() if wording.lower() in text]
    return contained[0] if len(contained) == 1 else None


# ---- BIG-bench-Hard

_NO_OR_YES = {  # task -> pattern whose group is filled for no
    "sports_understanding": r"\b(?:(no|not plausible)|yes|plausible)\b",
    "web_of_lies": r"\b(?:(no|does not tell the truth|is not telling the truth)|"
    r"yes|tells the truth|is telling the truth)\b",
}


def bbh_target(text: str, gold: str, options: Mapping[str, str], task: str) -> str | None:
    """What lm-eval's zero-shot "flexible-extract" finds in the text, looking for something of gold's form.

    That is: a letter in brackets or else an option; the first True/False, yes/no, valid/invalid, number or
    run of brackets; or the gold's words in the order of their last mention. "plausible" means yes in the task
    sports_understanding only, "tells the truth" in web_of_lies.
    """
    if re.fullmatch(r"\([A-Z]\)", gold):
        return _bracketed_letter(text, options)
    if gold.lower() in ("yes", "no"):
        if task in _NO_OR_YES:
            match = re.search(_NO_OR_YES[task], text.lower())
            return match and ("no" if match.group(1) else "yes")
        pattern = r"\b(?:Yes|No|yes|no)\b"
    elif gold in ("True", "False"):
        pattern = r"\b(?:True|False)\b"
    elif gold in ("valid", "invalid"):
        pattern = r"\b(?:valid|invalid)\b"
    elif re.fullmatch(r"-?\d+", gold):
        return first_number(text)
    elif re.fullmatch(r"[ \[(<{}>)\]]+", gold):
        pattern = r'[" \[(<{}>)\]]+'
    else:
        words = sorted(gold.split(), key=len, reverse=True)
        mentioned = re.findall("|".join(rf"\b{re.escape(word)}\b" for word in words), text)
        return " ".join(reversed(dict.fromkeys(reversed(mentioned))))
    match = re.search(pattern, text)
    return match and match.group().strip()


def _bracketed_letter(text: str, options: Mapping[str, str]) -> str | None:
    """The first "(B)" in the text, else "(B)" for the first option worded in it, else for the first ": B"."""
    if bracketed := re.search(r"\([A-Z]\)", text):
        return bracketed.group()
    # lm-eval cuts the wordings out of the question, each up to a bracket, a caret or the end of the line
    letters = {_bare(re.split(r"[\n^(]", wording)[0].strip()): letter for letter, wording in options.items()}
    wordings = sorted(filter(None, letters), key=len, reverse=True)
    if wordings and (worded := re.search("|".join(map(re.escape, wordings)), _bare(text))):
        return f"({letters[worded.group()]})"
    after_colon = re.search(rf":\s*([{''.join(options)}])", text) if options else None
    return f"({after_colon.group(1)})" if after_colon else None


def _bare(text: str) -> str:
    return "".join(letter for letter in text.lower() if not unicodedata.category(letter).startswith("P"))
