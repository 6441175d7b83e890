"""The peak memory of a process is its own: not that of the program which started it."""

from __future__ import annotations

import subprocess
import sys

from vrx.launch.devices import peak_resident_bytes


def test_peak_counts_what_was_freed_but_nothing_of_the_parent():
    block = bytearray(b"x" * (300 << 20))
    del block
    assert peak_resident_bytes() > 300 << 20
    code = "from vrx.launch.devices import peak_resident_bytes\nprint(peak_resident_bytes())\n"
    code += "block = b'x' * (100 << 20)\ndel block\nprint(peak_resident_bytes())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own, peak = map(int, result.stdout.split())
    assert 90 << 20 < peak - own < 110 << 20
    assert peak < peak_resident_bytes()
