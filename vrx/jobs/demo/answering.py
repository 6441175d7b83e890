"""What the page does when a question is put, without Gradio: the models in memory, and the rows of their answers."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from vrx.config.errors import UserError, user_message
from vrx.config.job_options import DemoConfig
from vrx.evaluation.asking import answer_with_probabilities, load_asked, require_picture
from vrx.evaluation.generation import Generator
from vrx.jobs.compared_models import answer_row
from vrx.runs.run_config import read_command_config


class ModelsInMemory:
    """The LVLMs of the page by their numbers; the last `keep` that were asked stay loaded, and never more."""

    def __init__(self, folders: Sequence[Path], keep: int) -> None:
        self._folders, self._keep = folders, keep
        self._loaded: OrderedDict[int, Generator] = OrderedDict()  # the one that was asked last is last

    @property
    def numbers(self) -> list[int]:
        """Those in memory."""
        return list(self._loaded)

    def get(self, number: int) -> Generator:
        """A model, loaded unless it is in memory; the one that was not asked for longest makes room."""
        if number not in self._loaded:
            while len(self._loaded) >= self._keep:
                self._loaded.popitem(last=False)
            folder = self._folders[number]
            self._loaded[number] = load_asked(read_command_config(folder), folder)
        self._loaded.move_to_end(number)
        return self._loaded[number]

    def clear(self) -> None:
        """Let go of all."""
        self._loaded.clear()


class Answering:
    """Answers the questions of the page."""

    def __init__(self, names: Sequence[str], folders: Sequence[Path], options: DemoConfig) -> None:
        self.names, self.options = names, options
        self.models = ModelsInMemory(folders, options.keep_models)

    def answer(
        self, picture: str | None, question: str, ticked: Sequence[int], options: str
    ) -> Iterator[tuple[list[list[str]], str]]:
        """The rows so far and a message, each time that a model has answered; the message is empty if all is well.

        picture: a file, or None for a question about text alone. options: one on each line; none: first tokens.
        """
        rows: list[list[str]] = []
        try:
            image = _check(picture, question, ticked)
        except UserError as error:
            yield rows, str(error)
            return
        choices = [line.strip() for line in options.splitlines() if line.strip()]
        messages: list[str] = []
        for number in sorted(ticked):
            try:
                rows.append(answer_row(self.names[number], self._answer_of(number, question, image, choices)))
            except Exception as error:  # of one model; the others answer
                messages.append(f"{self.names[number]}: {self._reason(error)}")
            yield rows, "\n".join(messages)

    def _answer_of(self, number: int, question: str, image: Path | None, choices: Sequence[str]) -> dict[str, Any]:
        return answer_with_probabilities(
            self.models.get(number),
            question.strip(),
            image,
            options=choices,
            num_tokens=self.options.first_tokens,
            max_new_tokens=self.options.max_new_tokens,
        )

    def _reason(self, error: Exception) -> str:
        """One line for the page; the traceback of a bug goes to the terminal."""
        if isinstance(error, torch.OutOfMemoryError):
            self.models.clear()
            return "does not fit into the GPU's memory beside the others; start the page with demo.keep_models=1"
        message = user_message(error)
        if message is None:
            traceback.print_exception(error)
            first_line = (str(error).strip().splitlines() or ["no message"])[0]
            message = f"{type(error).__name__}: {first_line}; the traceback is in the terminal"
        return message


def _check(picture: str | None, question: str, ticked: Sequence[int]) -> Path | None:
    """The picture of a question that can be put; `UserError` says what is missing or wrong."""
    if not ticked:
        raise UserError("Tick at least one run.")
    if not question.strip():
        raise UserError("Type a question.")
    try:
        return require_picture(picture)
    except UserError as error:  # the folder of uploads says nothing to whoever uploaded the file
        raise UserError(str(error).replace(f"{Path(str(picture)).parent}/", "")) from None
