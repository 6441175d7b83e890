"""The embedded LVLM as a generator, loaded once for a module."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.composing import composed
from support.generating import generator_of

from vrx.evaluation.generation import Generator


@pytest.fixture(scope="module")
def tiny(world: Path) -> Generator:
    return generator_of(composed([f"runtime.output_root={world}"]))
