"""GQA: questions about scenes. Official `testdev_balanced_questions.json`, or lmms-lab/GQA."""

from __future__ import annotations

from collections.abc import Iterator

from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import ShortAnswerRow


def rows(source: Source) -> Iterator[ShortAnswerRow]:
    """The 12,578 questions of testdev-balanced; the hub's pictures are in a subset of their own."""
    subset = source.subset or "testdev_balanced_instructions"
    name = f"{subset.removesuffix('_instructions')}_questions"
    files = source.find_files(f"{name}.json", f"{name}.*")
    if files:
        source.require("split", "testdev")
        pairs = source.named_records(files[0])
        images = {}
    else:
        pictures = source.hub_items(subset=subset.replace("_instructions", "_images"))
        images = {item.text("id"): source.save_image(item, item.text("id")) for item in pictures}
        pairs = ((item.text("id"), item) for item in source.hub_items(subset=subset))
    for question, item in pairs:
        image = item.text("imageId")
        if images and image not in images:
            raise item.error("imageId", f"{image} has no picture")
        yield {
            "id": question,
            "image": images.get(image, f"{image}.jpg"),
            "question": item.text("question"),
            "answers": [item.text("answer")],
            "question_type": item.optional_item("types").optional_text("structural") or "",
        }
