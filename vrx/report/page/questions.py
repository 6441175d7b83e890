"""Runs compared question by question: every score, and for some questions the picture and what each run answered."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vrx.evaluation.scoring import scores_by_question
from vrx.launch.logging import log
from vrx.metrics.answer import Answer
from vrx.report.collect import Run
from vrx.report.page.pictures import Pictures
from vrx.report.prediction_samples import Questions, read_questions
from vrx.report.question_scores import UNSCORABLE, load_answers
from vrx.runs.files import digest
from vrx.runs.run_dir import RunDir

MAX_SCORES = 4_000_000  # of a page; the answers of later runs are not compared
MAX_SHOWN = 48  # questions of a benchmark that are shown with their answers
SHARE_RANDOM = 4  # a quarter of them is random, the others are those that the runs disagree about most
MAX_PROMPT, MAX_TEXT = 700, 300  # characters
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # of a score: 0 to 1 in 35 steps


@dataclass
class _Asked:
    """A benchmark with the same questions in several runs."""

    name: str
    answers: dict[str, list[Answer]]  # of the first run, by question: several where rotations count as one
    settings: str = ""
    scores: dict[int, Mapping[str, float]] = field(default_factory=dict)  # by the number of the run
    texts: dict[int, dict[str, str]] = field(default_factory=dict)


def compare_questions(runs: Sequence[Run], pictures: Pictures, start: Sequence[Run] = ()) -> dict[str, Any]:
    """What `questions.js` reads: the runs, and for each benchmark its question types, scores and shown questions.

    start: the two runs that are compared at first; else the first two.

    A benchmark that two runs were asked in different versions appears twice.
    """
    asked: dict[str, _Asked] = {}
    used: list[int] = []
    num_scores = 0
    for number, run in enumerate(runs):
        if num_scores > MAX_SCORES:
            log(f"the page compares the answers of the first {number} runs only")
            break
        before = num_scores
        for name in run.record.scores:
            num_scores += _add(asked, number, run, name)
        used += [number] if num_scores > before else []
    first_two = [*(number for number in used if runs[number] in start), *used, *used][:2]
    benchmarks = [_benchmark(entry, pictures, first_two) for entry in asked.values()]
    return {
        "runs": [
            {"number": number, "name": _run_name(runs[number], runs), "model": runs[number].model} for number in used
        ],
        "start": first_two,
        "benchmarks": benchmarks,
    }


def _run_name(run: Run, runs: Sequence[Run]) -> str:
    return f"{run.model}: {run.folder.name}" if len({each.model for each in runs}) > 1 else run.folder.name


def _add(asked: dict[str, _Asked], number: int, run: Run, name: str) -> int:
    """Add the answers of a run to a benchmark; the number of its questions, 0 where its answers cannot be used."""
    loaded = load_answers(run, name)
    if loaded is None:
        return 0
    config, answers = loaded
    try:
        scores = scores_by_question(config, answers)
    except UNSCORABLE as error:
        log(f"left out of the report: answers {RunDir(run.folder).predictions(name)}: {error!r}")
        return 0
    by_question: dict[str, list[Answer]] = {}
    for answer in answers:
        key = f"group {answer.group}" if f"group {answer.group}" in scores else answer.id
        by_question.setdefault(key, []).append(answer)
    key = digest([name, list(scores)])
    entry = asked.setdefault(key, _Asked(name, by_question, json.dumps(dataclasses.asdict(config))))
    entry.scores[number] = scores
    entry.texts[number] = {
        question: " | ".join(answer.text[:MAX_TEXT] for answer in group) for question, group in by_question.items()
    }
    return len(scores)


def _benchmark(entry: _Asked, pictures: Pictures, start: Sequence[int]) -> dict[str, Any]:
    questions = list(next(iter(entry.scores.values())))
    types = [_type(entry.answers.get(question)) for question in questions]
    names = sorted(set(types))
    asked = read_questions(entry.name, entry.settings)
    chosen = _choose(entry, questions, start)
    return {
        "name": entry.name,
        "types": names,
        "type": [names.index(kind) for kind in types] if len(names) > 1 else [],
        "scores": {number: "".join(map(_digit, scores.values())) for number, scores in entry.scores.items()},
        "shown": [_shown(entry, questions.index(each), each, asked, pictures) for each in chosen],
    }


def _choose(entry: _Asked, questions: Sequence[str], start: Sequence[int]) -> list[str]:
    """The questions to show, in their own order: some random ones, then those that the two first compared runs disagree
    about, and those that all runs disagree about most."""
    generator = random.Random(entry.name)
    order = generator.sample(list(questions), len(questions))
    chosen = set(order[: MAX_SHOWN // SHARE_RANDOM])

    def disagreement(question: str) -> int:
        right = sum(scores[question] >= 0.5 for scores in entry.scores.values())
        return min(right, len(entry.scores) - right)

    pair = [entry.scores[number] for number in start if number in entry.scores]
    apart = [each for each in order if len({scores[each] >= 0.5 for scores in pair}) > 1 and each not in chosen]
    chosen |= set(apart[: MAX_SHOWN // 2])
    rest = sorted((each for each in order if each not in chosen), key=disagreement, reverse=True)
    chosen |= set(rest[: MAX_SHOWN - len(chosen)])
    return [question for question in questions if question in chosen]


def _shown(entry: _Asked, index: int, question: str, asked: Questions, pictures: Pictures) -> dict[str, Any]:
    """A question with the distinct answers of the runs, each run's by its number."""
    answers = entry.answers.get(question, [])
    first = answers[0] if answers else Answer(question, "", ())
    prompt, image = asked.get(first.id, ("", None))
    texts = sorted({texts.get(question, "") for texts in entry.texts.values()})
    return {
        "index": index,
        "id": question,
        "prompt": prompt[:MAX_PROMPT],
        "reference": " | ".join(map(_reference, answers))[:MAX_TEXT],
        "picture": pictures.add(image) if image else -1,
        "texts": texts,
        "answers": {number: texts.index(each.get(question, "")) for number, each in entry.texts.items()},
    }


def _reference(answer: Answer) -> str:
    return ", ".join(dict.fromkeys(answer.references)) or f"box {answer.box}"


def _type(answers: Sequence[Answer] | None) -> str:
    return answers[0].question_type if answers else ""


def _digit(score: float) -> str:
    return DIGITS[round(max(0.0, min(1.0, score)) * (len(DIGITS) - 1))]
