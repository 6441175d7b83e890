"""Answers as files: `answers/<benchmark>.jsonl`, keyed by what made them, so that no model gets another's."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from vrx.benchmarks import Sample
from vrx.config import ModelConfig
from vrx.metrics import Answer
from vrx.paths import located
from vrx.records import digest, file_digest, read_json, weights_fingerprint, write_atomic, write_json

SURGERY = "surgery.json"
PRUNED = "pruned"  # of a run's directory: the checkpoint that pruning saved
ENDS = 1 << 16  # bytes at either end of an image that stand for it
SPREAD = 128  # stretches of a file of weights, of as many bytes, that stand for it


@dataclasses.dataclass(frozen=True)
class Done:
    """What was done to an LVLM: whose adapter it has, and the layers put back to the backbone or cut out."""

    source: Path
    reverted: tuple[int, ...] = ()
    pruned: tuple[int, ...] = ()


def write_done(run_dir: Path, done: Done) -> None:
    """Leave `surgery.json`, by which the run's weights are known; the source is told relative to the directory."""
    source = Path(os.path.relpath(done.source, run_dir)).as_posix()
    write_json(run_dir / SURGERY, {"source": source, "reverted": done.reverted, "pruned": done.pruned})


def done_to(run_dir: Path) -> Done:
    """What was done to the weights of a run's directory beside its tuning; nothing where it does not say."""
    if not (run_dir / SURGERY).is_file():
        return Done(run_dir)
    told = read_json(run_dir / SURGERY)
    return Done((run_dir / told["source"]).resolve(), tuple(told["reverted"]), tuple(told["pruned"]))


def weights_digest(config: ModelConfig, run_dir: Path) -> str:
    """Stands for the weights that answer: those the LVLM is assembled from, the adapter and projector, and which layers
    were put back or cut out. It does not depend on where the run lies."""
    done = done_to(run_dir)
    files = sorted((done.source / "adapter").glob("*.safetensors"))
    adapter = [_whole_digest(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    told = [weights_fingerprint(config), _all_through(config), adapter]
    return digest([*told, done.reverted, done.pruned] if done.reverted or done.pruned else told)


def _all_through(config: ModelConfig) -> list[str]:
    """Stands for the insides of the local files of weights: a checkpoint that was tuned again, in some layers only, has
    the name, the size and the beginning that it had."""
    found = []
    for part in (config.backbone, config.vision_tower, config.projector, config.lvlm):
        folder = Path(located(part or ""))
        folder = folder / "adapter" if (folder / "adapter").is_dir() else folder
        for file in sorted(folder.iterdir()) if part and folder.is_dir() else ():
            if file.suffix in (".safetensors", ".bin"):
                found.append(_spread_digest(file, file.stat().st_size, file.stat().st_mtime_ns))
    return found


@functools.lru_cache(maxsize=1 << 10)  # a command asks before, between and after its stages
def _whole_digest(path: Path, size: int, _: int) -> str:
    return file_digest(path)


@functools.lru_cache(maxsize=1 << 10)
def _spread_digest(path: Path, size: int, _: int) -> str:
    told = hashlib.sha256()
    with path.open("rb") as file:
        for place in range(SPREAD):
            file.seek(max(0, size - ENDS) * place // (SPREAD - 1))
            told.update(file.read(ENDS))
    return told.hexdigest()[:16]


def key(weights: str, samples: list[Sample], max_new_tokens: int, *, ask: str = "text", dtype: str = "float32") -> str:
    """What answers were made from; answers with another key are not these.

    Of an image counts what is in it, not where it lies; of a reference nothing, unless its likelihood was asked for.
    `dtype` is the precision that a GPU is told to compute in.
    """
    asked = []
    for sample in samples:
        row = [sample.answer.id, sample.prompt, image_digest(sample.image) if sample.image else ""]
        asked.append([*row, *sample.answer.references[:1]] if ask == "likelihood" else row)
    told = [weights, asked, max_new_tokens, ask]
    return digest(told if dtype == "float32" else [*told, dtype])[:16]


def image_digest(path: Path) -> str:
    """Stands for what is in an image file, cheaply: its size and its two ends, which in a compressed format no other
    picture shares. Of a file that is not there its path does."""
    try:
        told = path.stat()
    except FileNotFoundError:
        return str(path)
    return _image_digest(path, told.st_size, told.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 18)
def _image_digest(path: Path, size: int, _: int) -> str:
    with path.open("rb") as file:
        told = hashlib.sha256(f"{size} ".encode() + file.read(ENDS))
        file.seek(max(ENDS, size - ENDS))
        told.update(file.read())
    return told.hexdigest()[:16]


def answers_file(run_dir: Path, benchmark: str) -> Path:
    return run_dir / "answers" / f"{benchmark}.jsonl"


def part_file(run_dir: Path, benchmark: str, rank: int) -> Path:
    folder = run_dir / "answers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f".{benchmark}.{rank}.part"


def write_answer(file: TextIO, answer: Answer) -> None:
    file.write(json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n")


def write_answers(path: Path, made_from: str, answers: Iterable[Answer], **told: Any) -> None:
    """Write a whole file of answers, or none; what else is told of them stands in its header."""
    text = io.StringIO()
    text.write(json.dumps({"key": made_from, **told}) + "\n")
    for answer in answers:
        write_answer(text, answer)
    write_atomic(path, text.getvalue())


def header(run_dir: Path, benchmark: str) -> dict[str, Any]:
    """What the first line of an answer file tells: its key, and what was found while it was made."""
    with answers_file(run_dir, benchmark).open("rb") as file:
        return json.loads(file.readline())


def read_answers(path: Path, made_from: str) -> dict[str, Answer]:
    """Answers by sample id; none where the file was made from something else, and without a last line that was cut."""
    lines = path.read_bytes().splitlines() if path.is_file() else []  # as text U+2028 in an answer would split it
    found: dict[str, Answer] = {}
    try:
        if not lines or json.loads(lines[0]).get("key") != made_from:
            return {}
        for line in lines[1:]:
            row = json.loads(line)
            lists = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
            found[row["id"]] = Answer(**{**row, **lists})
    except ValueError:  # of JSON, or of UTF-8 where the cut went through a character
        pass
    return found


def given(samples: list[Sample], read: dict[str, Answer]) -> list[Answer]:
    """What was answered, in the order of the samples and with the references they have now."""
    said = ("text", "choice_log_probs", "log_likelihood", "num_tokens", "num_words", "num_bytes")
    return [
        dataclasses.replace(sample.answer, **{name: getattr(read[sample.answer.id], name) for name in said})
        for sample in samples
    ]


def keep_references(run_dir: Path, benchmark: str, answers: list[Answer]) -> None:
    """Put the references that answers were scored with into their file, where it holds others."""
    path, told = answers_file(run_dir, benchmark), header(run_dir, benchmark)
    made_from = told.pop("key")
    if list(read_answers(path, made_from).values()) != answers:
        write_answers(path, made_from, answers, **told)


def read_parts(run_dir: Path, benchmark: str, made_from: str) -> dict[str, Answer]:
    """What all ranks have answered so far, of this command and of earlier ones."""
    found: dict[str, Answer] = {}
    for path in sorted((run_dir / "answers").glob(f".{benchmark}.*.part")):
        found |= read_answers(path, made_from)
    return found


def collect(run_dir: Path, benchmark: str, samples: list[Sample], made_from: str, **told: Any) -> None:
    """Join the ranks' parts into the benchmark's answer file, in the order of its samples."""
    found = read_parts(run_dir, benchmark, made_from)
    answers = [found[sample.answer.id] for sample in samples]
    write_answers(answers_file(run_dir, benchmark), made_from, answers, **told)
    for path in (run_dir / "answers").glob(f".{benchmark}.*.part"):
        path.unlink()
