"""Commands, paths and links of README.md and docs/ are valid."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from support.composing import composed

from vrx.config.command_line import read_arguments
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
INSTALL = "python3.11 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e '.[test]' && vrx"
RUN_BY_CI = (INSTALL, "pytest")  # .ci/run executes these; see test_ci_runs_the_commands_of_the_readme
BUILD = "python -m vrx.tiny.build"
REPORT = f"{BUILD} --report"  # its measurement is a slow test of tests/tiny/test_layer_report.py
PREPARE = ("pip install -c constraints.txt -e '.[small]'", "python -m vrx.small.prepare")  # downloads
FINISHED_RUN = "outputs/finetune/tiny/…"  # stands for the directory of any finished run
HAS_SLURM = importlib.util.find_spec("submitit") is not None
TINY = ("world.num_images=48", "world.num_questions=6", "wandb.mode=disabled", "train.max_steps=6")
TINY += ("train.global_batch_size=4", "train.micro_batch_size=2", "engine.name=torch")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The shell commands of a page, without comments and with continued lines joined."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [command for line in lines if (command := re.sub(r"\s+#.*", "", line).strip())]


ALL = [(page.name, command) for page in PAGES for command in commands(page)]
VRX = [(page, command) for page, command in ALL if command.split()[0] == "vrx"]


def inline_code(page: Path) -> list[str]:
    """The code spans of a page outside fenced blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


PARTS = "|".join(field.name for field in dataclasses.fields(RunConfig))
SPANS = sorted({span for page in PAGES for span in inline_code(page)})
SPAN_OVERRIDES = [span for span in SPANS if re.fullmatch(rf"({PARTS})(\.\w+)*=[\w.,\[\]-]+", span)]
SPAN_KEYS = [span for span in SPANS if re.fullmatch(rf"({PARTS})(\.(?!jsonl?)\w+)+", span)]
SPAN_COMMANDS = [span for span in SPANS if span.startswith("vrx ") and "…" not in span]


def with_job(override: str) -> str:
    """A command with an override; the options of a job need that job."""
    part = override.partition(".")[0]
    is_job_option = (CONF / "job" / f"{part}.yaml").is_file()
    return f"vrx {f'job={part} ' if is_job_option else ''}{override}"


def words_of(command: str) -> list[str]:
    """The arguments of a `vrx` command, placeholders replaced."""
    return shlex.split(command.replace(FINISHED_RUN, "outputs/finetune/tiny/finished_run"))[1:]


def sweep_params(overrides: list[str]) -> dict[str, str]:
    """What the sweep file that a command names goes through."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=overrides, return_hydra_config=True).hydra.sweeper.get("params") or {}


def first_run(arguments: list[str]) -> list[str]:
    """The overrides of the first run of a sweep: the first value of each list, on the command line or in a file."""
    overrides = [word for word in read_arguments(arguments) if not word.startswith("-")]
    if not HAS_SLURM:
        overrides = [word for word in overrides if not word.startswith(("hydra/launcher", "hydra.launcher"))]
    fixed = [word for word in overrides if not OverridesParser.create().parse_override(word).is_sweep_override()]
    params = sweep_params(fixed) if any(word.startswith("sweep=") for word in fixed) else {}
    parsed = OverridesParser.create().parse_overrides(
        [*(f"{key}={value}" for key, value in params.items()), *overrides]
    )
    values = {}
    for override in parsed:
        key = override.get_key_element()
        is_list = override.is_sweep_override()
        values[key] = f"{key}={next(override.sweep_string_iterator())}" if is_list else override.input_line or ""
    return [override for override in values.values() if not override.startswith(("hydra/", "hydra."))]


@pytest.mark.parametrize(("page", "command"), VRX, ids=str)
def test_a_command_composes_into_a_valid_run(page: str, command: str):
    arguments = words_of(command)
    assert isinstance(composed(first_run([word for word in arguments if word not in ("--cfg", "job")])), RunConfig)


@pytest.mark.parametrize("command", [*SPAN_COMMANDS, *map(with_job, SPAN_OVERRIDES)])
def test_a_command_or_setting_in_the_text_is_valid(command: str):
    assert isinstance(composed(first_run(words_of(command))), RunConfig)


def test_keys_in_the_text_exist():
    assert len(SPAN_KEYS) > 10
    assert not [key for key in SPAN_KEYS if not is_key(RunConfig, key.split("."))]


def is_key(part: type, path: list[str]) -> bool:
    """Whether a dotted key is a field of a part of the configuration."""
    kind = typing.get_type_hints(part).get(path[0])
    if kind is None or len(path) == 1:
        return kind is not None
    kinds = [kind, *typing.get_args(kind)]  # of `X | None` and `dict[str, X]` too
    return any(is_key(kind, path[1:]) for kind in kinds if dataclasses.is_dataclass(kind))


@pytest.mark.parametrize(("page", "command"), ALL, ids=str)
def test_every_command_is_checked_somewhere(page: str, command: str):
    assert command.split()[0] == "vrx" or command in (*RUN_BY_CI, BUILD, REPORT, *PREPARE), (
        "add a check for this kind of command"
    )


def test_ci_runs_the_commands_of_the_readme():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert INSTALL in commands(ROOT / "README.md") and "pytest" in commands(ROOT / "README.md")
    assert "python3.11 -m venv" in script and "pip install -q -c constraints.txt -e '.[test]'" in script
    assert re.search(r"^time pytest ", script, re.MULTILINE) and "time vrx)" in script


@pytest.mark.parametrize("command", [BUILD, PREPARE[1]])
def test_the_commands_that_make_parts_of_models_start(command: str):
    result = subprocess.run([*shlex.split(command.replace("python", sys.executable, 1)), "--help"], capture_output=True)
    assert result.returncode == 0


TINY_SWEEPS = [command for _, command in VRX if re.search(r"sweep=(?!none)|-m\b", command) and "model=tiny" in command]


@pytest.mark.parametrize("command", sorted({*TINY_SWEEPS, "vrx -m seed=0,1,2 layer_count=4_layers,8_layers"}))
def test_a_sweep_on_the_tiny_model_lists_its_runs(vrx: Callable[..., subprocess.CompletedProcess], command: str):
    result = vrx(*words_of(command), *TINY, "sweep.dry_run=true")
    assert result.returncode == 0, result.stderr
    assert "job=check" in command or "to do" in result.stdout


@pytest.mark.parametrize("command", ["vrx --help", "vrx --cfg job"])
def test_the_configuration_is_shown(vrx: Callable[..., subprocess.CompletedProcess], command: str):
    assert command in commands(ROOT / "README.md")
    result = vrx(*words_of(command))
    assert result.returncode == 0 and "selector" in result.stdout


@pytest.mark.slow
def test_the_experiments_of_the_readme_run(vrx: Callable[..., subprocess.CompletedProcess], tmp_path: Path):
    """All of them, on the tiny model and little data; sweeps are listed."""
    Image.new("RGB", (48, 48)).save(tmp_path / "picture.png")
    for command in [command for command in commands(ROOT / "README.md") if command.startswith("vrx")]:
        if "--" in command:
            continue  # test_the_configuration_is_shown
        is_sweep = "sweep=" in command or " -m " in command
        finished = next((path.parent for path in tmp_path.glob("outputs/finetune/tiny/*/record.json")), None)
        command = command.replace(FINISHED_RUN, str(finished))
        result = vrx(*words_of(command), *TINY, *(["sweep.dry_run=true"] if is_sweep else []))
        assert result.returncode == 0, f"{command}: {result.stderr}"


def test_the_python_example_of_the_readme_loads_an_adapter(tuned: Path):
    (example,) = blocks(ROOT / "README.md", "python")
    variables: dict[str, object] = {}
    exec(example.replace("…", str(tuned)), variables)
    assert "tuned" in variables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#:]+)\)", text) if not (page.parent / target).exists()]
    paths = re.findall(r"`((?:vrx|tests|conf|sweeps|docs)/[\w./-]*)`", text)
    assert not links
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180
