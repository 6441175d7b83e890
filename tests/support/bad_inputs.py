"""Generated bad inputs over the whole command, run by hand because it takes minutes:

    python tests/support/bad_inputs.py --count 500 --seed 0 --folder /tmp/bad_inputs

Each input is a command with a bad option, or with a file that was changed: instruction data, captions, questions,
pictures, checkpoints, and what a run left. It must be refused by name, told and left out, or be harmless and then have
the result of the unchanged files; where a value is another valid one, the result may be another one. The table counts
these by kind; every input that was taken otherwise is printed with what the command said.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import random
import shutil
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "200"})

PARTS = ("main", "launch.worker", "models.loading", "models.from_run", "evaluation.generation", "evaluation.asking")
COLUMNS = ("refused", "told", "harmless", "other value", "wrong")


def main() -> None:
    """Run the inputs; exit with status 1 if one was taken wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", help="only kinds whose name begins so")
    parser.add_argument("--number", type=int, action="append", help="only these inputs, and keep their folders")
    parser.add_argument("--processes", type=int, default=1, help="how many inputs are run at once")
    parser.add_argument("--folder", type=Path, required=True, help="a new folder, or one of an earlier call")
    options = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    options.folder = options.folder.absolute()
    os.environ["VRX_BAD_INPUTS"] = str(options.folder)
    for name in ("torch", "transformers", "datasets", "deepspeed", "peft", *(f"vrx.{part}" for part in PARTS)):
        importlib.import_module(name)  # what driver and workers import, once for all forks
    from support import bad_input_scenes

    if not (options.folder / "good").is_dir():
        bad_input_scenes.make_good(options.folder)
    for folder in options.folder.glob("work-*"):
        shutil.rmtree(folder)
    children = [_fork(options, part) for part in range(options.processes)]
    for child in children:
        os.waitpid(child, 0)
    files = [options.folder / f"work-{part}" / "counts.json" for part in range(options.processes)]
    counts: Counter[tuple[str, str]] = Counter()
    for kind, taken in itertools.chain.from_iterable(json.loads(file.read_text()) for file in files):
        counts.update([(kind, taken), ("all", taken)])
    print(table(counts))
    sys.exit(counts["all", "wrong"] > 0)


def _fork(options: Any, part: int) -> int:
    """Run every n-th input in a process of its own, which leaves kind and outcome of each; gives its id."""
    child = os.fork()
    if child == 0:
        try:
            outcomes = _run(options, part)
            (options.folder / f"work-{part}" / "counts.json").write_text(json.dumps(outcomes))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    return child


def _run(options: Any, part: int) -> list[tuple[str, str]]:
    from support import bad_input_kinds
    from support.bad_input_runner import Runner

    work = options.folder / f"work-{part}"
    work.mkdir()
    runner, outcomes = Runner(work), []
    numbered = enumerate(bad_input_kinds.inputs(random.Random(options.seed)))
    for number, bad in itertools.islice(numbered, options.count):
        is_chosen = number in options.number if options.number else number % options.processes == part
        if not is_chosen or (options.kind and not bad.kind.startswith(tuple(options.kind))):
            continue
        taken, why, seconds = runner.judge(number, bad)
        outcomes.append((bad.kind, taken))
        lines = [f"{number:4} {seconds:5.1f} s  {taken:11} {bad.kind}: {bad.name}"]
        if taken == "wrong" or options.number:
            texts = [
                (work / f"{number:04}" / name).read_text(errors="replace") for name in ("stdout.txt", "stderr.txt")
            ]
            said = [line[:400] for line in "".join(texts).splitlines() if not line.startswith(("ok ", "making "))]
            lines += [f"     {why}; vrx {' '.join((*bad.scene.command, *bad.arguments))}", *said[-40:]]
        else:
            shutil.rmtree(work / f"{number:04}", ignore_errors=True)
        print("\n".join(lines), flush=True)
    return outcomes


def table(counts: Counter[tuple[str, str]]) -> str:
    """Markdown: kinds in rows, how their inputs were taken in columns."""
    lines = [" | ".join(("kind", "inputs", *COLUMNS)), "|".join(["---", *["---:"] * (len(COLUMNS) + 1)])]
    for kind in sorted({kind for kind, _ in counts}, key=lambda kind: (kind == "all", kind)):
        numbers = [counts[kind, column] for column in COLUMNS]
        lines.append(" | ".join((kind, str(sum(numbers)), *map(str, numbers))))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    main()
