"""The house stands on its floors: imports point down only, heavy libraries stay in the rooms they were given."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vrx.paths import PACKAGE

# From the ground up; `jobs` stands for every job, `stages` for every stage of a worker. A module imports from the
# floors below its own, and from no other.
FLOORS: list[set[str]] = [
    {"config", "paths", "aggregates", "extraction", "normalisation", "vocabulary", "expansion"},
    {"json_lists", "image_files", "stored", "kept", "boxes"},
    {"identity"},
    {"scores"},
    {"selectors", "importance", "metrics", "toolkits", "paper", "checks", "report.bootstrap"},
    {"records", "nodes"},
    {"shapes"},
    {"estimates", "operations", "model_files"},
    {"distributed", "locks"},
    {"launching"},
    {"devices"},
    {"ceiling", "memory", "switches", "fused_lora", "packing"},
    {"sources"},
    {"readers"},
    {"conversion"},
    {"prompts", "grouping", "instructions", "benchmarks", "images", "layouts", "tiny.scenes"},
    {"parts", "adapters"},
    {"whole"},
    {"models", "batches", "answers", "tiny.questions"},
    {"made_up"},
    {"lora", "surgery", "engine", "calibration", "tiny.data", "tiny.backbone"},
    {"checkpoint", "tiny.build", "finished", "merged", "supervised"},
    {"train", "generate", "probe"},
    {"preparation", "peer"},
    {"perplexity"},
    {"asking"},
    {"stages"},
    {"worker", "report.runs", "plots"},
    {"report.cells", "report.predictions"},
    {"tables", "figures", "costs", "ways", "heatmap", "tracking", "evaluation", "multirun"},
    {"report.grid"},
    {"report.markdown", "report.latex", "report.comma_separated", "report.page"},
    {"report.artefacts", "dashboard"},
    {"origins", "preflight"},
    {"jobs"},
    {"main"},
]
ROOMS = {  # library: the modules that may import it
    "wandb": {"tracking", "dashboard"},
    "wandb_workspaces": {"dashboard"},
    "deepspeed": {"engine"},
    "peft": {"lora"},
    "hydra": {"main", "expansion"},
    "jinja2": {"report.page"},
    "matplotlib": {"plots", "heatmap"},
    "omegaconf": {"config", "checks", "main", "expansion", "tiny.build"},
}
WITHOUT_TORCH = [
    "config",
    "selectors",
    "metrics",
    "records",
    "scores",
    "distributed",
    "launching",
    "locks",
    "instructions",
    "benchmarks",
    "answers",
    "paper",
    "tables",
    "figures",
    "report.page",
    "report.artefacts",
    "evaluation",
    "tracking",
    "tiny.data",
    "main",
]
FORBIDDEN = {"utils", "helpers", "common", "manager", "misc", "base"}


def name_of(path: Path) -> str:
    """Dotted name of a module below `vrx`; a folder's own file has the folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = [name for name, path in FILES.items() if path.name != "__init__.py"]


def imports(name: str) -> set[str]:
    """What a module imports, wherever in its code, by absolute name; of `from a import b` both readings."""
    path = FILES[name]
    home = ["vrx", *path.relative_to(PACKAGE).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = home[: len(home) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def ours(name: str) -> set[str]:
    """The modules of this package that a module imports."""
    return {module.removeprefix("vrx.") for module in imports(name) if module.removeprefix("vrx.") in MODULES}


def room_of(name: str) -> str:
    return name.split(".")[0] if name.startswith(("jobs.", "stages.", "readers.")) else name


def floor(name: str) -> int:
    room = room_of(name)
    (number,) = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    return number


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_one_floor(name: str):
    assert sum(room_of(name) in rooms for rooms in FLOORS) == 1


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down_and_never_sideways(name: str):
    wrong = {other for other in ours(name) if floor(other) >= floor(name)}
    assert not wrong, f"{name} (floor {floor(name)}) imports {wrong}"


def test_the_reader_of_imports_reads_them():
    assert {"config", "records"} <= ours("instructions")  # from vrx.config import …
    assert {"tables", "tracking"} <= ours("jobs.finetune")  # from vrx import tables
    assert {"questions", "scenes"} <= {module.removeprefix("tiny.") for module in ours("tiny.data")}
    assert "wandb" in imports("tracking")  # inside a function


@pytest.mark.parametrize("library", ROOMS)
def test_a_library_stays_in_its_room(library: str):
    users = {name for name in FILES if any(module.split(".")[0] == library for module in imports(name))}
    assert users <= ROOMS[library]


def test_the_driver_never_imports_torch():
    jobs = [name for name in MODULES if name.startswith("jobs.")]
    code = "\n".join(
        [f"import vrx.{name}" for name in [*WITHOUT_TORCH, *jobs]]
        + [
            "import sys",
            "print([name for name in ('torch', 'transformers', 'deepspeed', 'peft') if name in sys.modules])",
        ]
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (told.stdout, told.stderr) == ("[]\n", "")


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_at_most_300_lines(name: str):
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("name", MODULES)
def test_no_module_has_a_name_that_says_nothing(name: str):
    assert not set(name.replace("_", ".").split(".")) & FORBIDDEN


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for(name: str):
    assert ast.get_docstring(ast.parse(FILES[name].read_text(encoding="utf-8")))
