"""The stage `ask`: answers on the terminal, word by word."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.evaluation.asking import encode_conversation, load_asked, require_picture, stream_answer
from vrx.launch.ranks import set_ready


def ask(run: RunConfig, folder: Path) -> None:
    """Answer `question`, or each line of the standard input until an empty one; a later question knows the earlier."""
    image = require_picture(run.image)
    generator = load_asked(run, folder)
    set_ready(folder)
    turns: list[str] = []
    for question in [run.question] if run.question is not None else _typed_questions():
        turns.append(question)
        encoded = encode_conversation(generator, turns, image)
        turns.append(stream_answer(generator, encoded, required(run.ask).max_new_tokens))


def _typed_questions() -> Iterator[str]:
    """The lines that are typed, without outer blanks."""
    while True:
        if sys.stdin.isatty():
            sys.stdout.write("> ")
            sys.stdout.flush()
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line
