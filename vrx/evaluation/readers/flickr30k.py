"""Flickr30k: photographs with five captions each. Official `results_20130124.token`, or lmms-lab/flickr30k."""

from __future__ import annotations

from collections.abc import Iterator

from vrx.evaluation.dataset_files import read_table
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import ShortAnswerRow

QUESTION = "Please describe this image in detail."  # the prompt of the paper's authors for scoring layers


def rows(source: Source) -> Iterator[ShortAnswerRow]:
    """One row a photograph, its captions as references."""
    files = source.find_files("results_20130124.token")
    if not files:
        for item in source.hub_items():
            name = item.text("filename")
            yield _row(source.save_image(item, name.rpartition(".")[0]), item.texts("caption"))
        return
    source.require("split", "test")
    captions: dict[str, list[str]] = {}
    lines = read_table(files[0], delimiter="\t", columns=["name", "caption"], quoted=False)
    for item in source.items(lines):
        captions.setdefault(item.text("name").partition("#")[0], []).append(item.text("caption"))
    for name, texts in captions.items():
        yield _row(name, texts)


def _row(image: str, captions: list[str]) -> ShortAnswerRow:
    return {"id": image.rpartition(".")[0], "image": image, "question": QUESTION, "answers": captions}
