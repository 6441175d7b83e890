"""All kinds of bad inputs in turn."""

from __future__ import annotations

import random
from collections.abc import Iterator

from support.bad_checkpoints import checkpoints, official_checkpoints
from support.bad_conversations import conversations
from support.bad_data import captions, instruction_files, pictures
from support.bad_input_runner import BadInput
from support.bad_options import options
from support.bad_questions import question_files, questions
from support.bad_runs import run_files

MAKERS = (options, questions, run_files, options, instruction_files, checkpoints, questions, run_files, question_files)
MAKERS += (conversations, options, pictures, checkpoints, run_files, captions, official_checkpoints)


def inputs(rng: random.Random) -> Iterator[BadInput]:
    """Bad inputs without end, of each kind in turn."""
    sources = [maker(random.Random(rng.random())) for maker in MAKERS]
    while True:
        for source in sources:
            yield next(source)
