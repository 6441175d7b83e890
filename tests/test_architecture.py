"""What import-linter cannot see: the driver loads no torch, and every module says what it is for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from support.longest import PLACES

import vrx

PACKAGE = Path(vrx.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
FORBIDDEN = {"utils", "helpers", "common", "manager", "misc", "base"}
DRIVERS = [
    "vrx.main",
    *(f"vrx.{package}" for package in ("config", "selectors", "metrics", "runs", "report")),
    *(
        f"vrx.jobs.{folder.name}.driver"
        for folder in sorted((PACKAGE / "jobs").iterdir())
        if (folder / "driver.py").is_file()
    ),
]


def test_the_driver_never_imports_torch():
    heavy = ("torch", "transformers", "deepspeed", "peft")
    code = "\n".join(
        [*(f"import {name}" for name in DRIVERS), f"import sys; print([n for n in {heavy} if n in sys.modules])"]
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_the_package_shows_few_entries():
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 16


def test_the_files_that_start_first_exist():
    assert not [path for path in PLACES if not path.is_file()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_has_a_purpose_a_size_and_a_name(path: Path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "say in the docstring what the module is for"
    assert len(text.splitlines()) <= 250
    assert path.name == "__init__.py" or len(text.splitlines()) >= 25
    assert path.stem not in FORBIDDEN
