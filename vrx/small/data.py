"""The small world on disk: captions and instructions in LLaVA's format with images, benchmarks as JSON Lines."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.config.schema import WorldConfig
from vrx.data.world_folder import DESCRIPTION, is_made
from vrx.runs.durable import partial_folder, put_in_place
from vrx.runs.files import file_digest, write_atomic, write_json
from vrx.small import benchmarks, questions, scenes
from vrx.small.pictures import NAMES_FILE, TABLE
from vrx.small.scenes import Scene
from vrx.small.stock import Stock, Stocks, open_stocks

TURNS = 6  # question-answer pairs of a conversation
TEXT_ONLY = 0.08  # share of conversations without an image, between LLaVA's 6 % and Bunny's 10 %
VERSION = 2  # worlds of another version are made again
SORTS: dict[str, tuple[float, Callable[[random.Random, Stock], Scene], tuple[questions.Maker, ...]]] = {
    # share of the pictures, scenes, questions about them
    "things": (0.6, scenes.sample_things, questions.THINGS),
    "labelled": (0.16, scenes.sample_labelled, questions.LABELLED),
    "cover": (0.12, scenes.sample_cover, questions.COVER),
    "page": (0.12, scenes.sample_page, questions.PAGE),
}


def build(config: WorldConfig) -> None:
    """Make instructions, captions and benchmarks unless they exist; the same seed makes the same files.

    `UserError` with the command to run where the pictures are missing, and where the folder holds another world.
    """
    folder, pictures = Path(config.folder), Path(config.pictures or "")
    if not (pictures / TABLE).is_file():
        raise UserError(f"world.pictures={config.pictures}: holds no {TABLE}; to make it: {config.prepare}")
    counts = {"images": config.num_images, "captions": config.num_captions, "questions": config.num_questions}
    digests = {"pictures": file_digest(pictures / TABLE), "names": file_digest(NAMES_FILE)}
    description = {"version": VERSION, **counts, **digests, "seed": config.seed}
    if is_made(folder, description):
        return
    partial = partial_folder(folder)
    stocks = open_stocks(pictures)
    total = config.num_images + config.num_captions + len(benchmarks.NAMES)
    with tqdm(total=total, desc="making the small world", delay=1) as bar:
        write_json(partial / "captions.json", _captions(config, stocks, partial / "images", bar))
        write_json(partial / "instructions.json", _instructions(config, stocks, partial / "images", bar))
        for name in benchmarks.NAMES:
            rows = benchmarks.make_rows(
                name, stocks, seed=config.seed, number=config.num_questions, images=partial / "images"
            )
            write_atomic(partial / "benchmarks" / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
            bar.update()
    write_json(partial / DESCRIPTION, description)
    put_in_place(partial, folder)


def sample_scene(rng: random.Random, stock: Stock) -> tuple[Scene, tuple[questions.Maker, ...]]:
    """A random scene of any sort and the makers of questions about it."""
    sorts = list(SORTS.values())
    _, sample, makers = rng.choices(sorts, weights=[share for share, _, _ in sorts])[0]
    return sample(rng, stock), makers


def _captions(config: WorldConfig, stocks: Stocks, images: Path, bar: tqdm) -> list[dict[str, object]]:
    """Descriptions of pictures, as LLaVA's first stage learns them."""
    rng = random.Random(f"small world {config.seed} captions")
    records = []
    for number in range(config.num_captions):
        scene, _ = sample_scene(rng, stocks.train)
        image = f"captions/{number}.png"
        benchmarks.save(scene, stocks.train, images / image, rng)
        caption = questions.description(scene, rng, stocks.train)
        turns = [{"from": "human", "value": f"{caption.text}\n<image>"}, {"from": "gpt", "value": caption.answer}]
        records.append({"id": f"caption_{number}", "image": image, "conversations": turns})
        bar.update()
    return records


def _instructions(config: WorldConfig, stocks: Stocks, images: Path, bar: tqdm) -> list[dict[str, object]]:
    rng = random.Random(f"small world {config.seed} instructions")
    records = []
    for number in range(config.num_images):
        records.append(_conversation(rng, number, stocks, images))
        bar.update()
    return records


def _conversation(rng: random.Random, number: int, stocks: Stocks, images: Path) -> dict[str, object]:
    """Several different questions about one picture or, in a text-only conversation, about what is known."""
    record: dict[str, object] = {"id": f"small_{number}"}
    turns: list[dict[str, str]] = []
    if rng.random() < TEXT_ONLY:
        chosen = [benchmarks.text_question(rng, stocks, stocks.train.names) for _ in range(TURNS)]
    else:
        record["image"] = f"train/{number}.png"
        scene, makers = sample_scene(rng, stocks.train)
        benchmarks.save(scene, stocks.train, images / str(record["image"]), rng)
        chosen = _different(scene, makers, rng, stocks.train)
    for question in chosen:
        turns.append({"from": "human", "value": questions.prompt(question)})
        turns.append({"from": "gpt", "value": questions.reply(question)})
    if "image" in record:
        turns[0]["value"] = f"<image>\n{turns[0]['value']}"
    return {**record, "conversations": turns}


def _different(
    scene: Scene, makers: tuple[questions.Maker, ...], rng: random.Random, stock: Stock
) -> list[questions.Question]:
    """Up to TURNS questions with different texts; a scene of one thing has fewer."""
    asked: dict[str, questions.Question] = {}
    for _ in range(8 * TURNS):
        question = rng.choice(makers)(scene, rng, stock)
        if question is not None:
            asked.setdefault(question.text, question)
        if len(asked) == TURNS:
            break
    return list(asked.values())
