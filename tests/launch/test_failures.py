"""How a worker ended, in words."""

from __future__ import annotations

import pytest

from vrx.launch.failures import ended_text, first_cause


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (-9, "was killed by SIGKILL"),
        (137, "was killed by SIGKILL"),
        (247, "was killed by SIGKILL"),
        (-15, "was killed by SIGTERM"),
        (143, "was killed by SIGTERM"),
        (1, "ended with status 1"),
        (75, "ended with status 75"),
    ],
)
def test_the_signal_that_ended_a_process_is_named(status: int, text: str):
    assert ended_text(status) == text


def test_a_line_of_a_worker_comes_before_its_status():
    assert (
        first_cause("record 7: no such file", "train ended with status 3 (run)", 3, None, None)
        == "record 7: no such file"
    )
    assert first_cause("", "train was killed by SIGKILL (run)", -9, None, None) == "train was killed by SIGKILL (run)"
    assert not first_cause("", "", 0, None, None)
