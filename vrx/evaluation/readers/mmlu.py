"""MMLU: four choices in 57 subjects, after five answered ones. Official `data/` (`test`, `dev`), or cais/mmlu."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from vrx.config.errors import UserError
from vrx.evaluation.dataset_files import read_table
from vrx.evaluation.dataset_items import Item
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import MultipleChoiceRow

COLUMNS = ["question", "A", "B", "C", "D", "answer"]
SHORT = {"validation": "val"}
NUM_SHOTS = 5  # as the paper asks MMLU (its section on textual tasks)


def rows(source: Source) -> Iterator[MultipleChoiceRow]:
    """Questions with their subject; `hint` holds five answered ones (split `dev`), as hendrycks/test writes them."""
    shots: dict[str, list[str]] = defaultdict(list)
    for subject, row in _split_rows(source, "dev"):
        shots[subject].append(_with_answer(row))
    for subject, row in _split_rows(source, source.split or "test"):
        before = shots[subject][:NUM_SHOTS]
        if len(before) < NUM_SHOTS:
            raise UserError(f"{source.key}: {subject} has {len(before)} answered questions (dev), must be {NUM_SHOTS}")
        heading = f"The following are multiple choice questions (with answers) about  {subject.replace('_', ' ')}."
        yield {**row, "hint": "\n\n".join([heading, *before, ""]).removesuffix("\n")}


def _split_rows(source: Source, split: str) -> Iterator[tuple[str, MultipleChoiceRow]]:
    """Subject and row of each question, without hints."""
    short = SHORT.get(split, split)
    files = (
        source.find_files(f"*_{short}.csv")
        or source.find_beside(f"*_{short}.csv")
        or source.find_split_files("*_{}.csv", short)
    )
    for path in files:
        subject = path.stem.removesuffix(f"_{short}")
        for number, item in enumerate(source.items(read_table(path, columns=COLUMNS), of=subject)):
            choices = [item.text(letter) for letter in "ABCD"]
            yield subject, _row(subject, number, item, choices, item.text("answer"))
    hub_split = Source(source.name, source.path, source.subset, split, source.images, revision=source.revision)
    for number, item in enumerate(() if files else hub_split.hub_items()):
        choices = item.texts("choices")
        subject = item.text("subject")
        yield subject, _row(subject, number, item, choices, item.letter("answer", len(choices)))


def _row(subject: str, number: int, item: Item, choices: list[str], answer: str) -> MultipleChoiceRow:
    return {
        "id": f"{subject}_{number}",
        "question": item.text("question"),
        "question_type": subject,
        "choices": choices,
        "answer": answer,
    }


def _with_answer(row: MultipleChoiceRow) -> str:
    options = [f"{letter}. {text}" for letter, text in zip("ABCD", row["choices"], strict=False)]
    return "\n".join([row["question"], *options, f"Answer: {row['answer']}"])
