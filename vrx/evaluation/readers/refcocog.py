"""RefCOCOg: the box of a described thing. Official `refs(umd).p` and `instances.json`, or lmms-lab/RefCOCOg."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import Any

from PIL import Image

from vrx.config.errors import UserError
from vrx.evaluation.dataset_source import Item, Source, opened, read_json


class _Plain(pickle.Unpickler):
    """Reads lists, dictionaries, numbers and texts; anything else that a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"asks for {module}.{name}; a list of references is plain data")


def rows(source: Source) -> Iterator[dict[str, Any]]:
    """One row a sentence (9,602 of 5,023 things in the test split); boxes as corners in pixels."""
    files = source.official("refs(umd).p")
    if not files:
        for item in source.hub():
            yield from _of_hub(source, item)
        return
    instances = source.beside("instances.json")
    if not instances:
        raise source.nothing("instances.json")
    told = read_json(instances[0])
    images = {row["id"]: row for row in told["images"]}
    boxes = {row["id"]: row["bbox"] for row in told["annotations"]}
    try:
        references = _Plain(io.BytesIO(opened(files[0])), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{files[0]}: {error}") from None
    splits = {reference["split"] for reference in references}
    if source.split not in splits:
        raise UserError(f"{source.key}.split={source.split}: valid are {', '.join(sorted(splits))}")
    for item in source.items(references):
        if item["split"] != source.split:
            continue
        if item["image_id"] not in images or item["ann_id"] not in boxes:
            raise item.refuse("ann_id", f"{item['ann_id']} of image {item['image_id']} is not in {instances[0].name}")
        image = images[item["image_id"]]
        for sentence in item["sentences"]:
            yield {
                "id": str(sentence["sent_id"]),
                "image": image["file_name"],
                "question": sentence["sent"],
                "box": _corners(item, boxes[item["ann_id"]]),
                "width": image["width"],
                "height": image["height"],
            }


def _of_hub(source: Source, item: Item) -> Iterator[dict[str, Any]]:
    image = source.keep(item, item.text("file_name").rpartition(".")[0])
    with Image.open(io.BytesIO(item["image"]["bytes"])) as picture:
        width, height = picture.size
    for number, sentence in enumerate(item.texts("answer")):
        told = {"id": f"{item.text('question_id')}_{number}", "image": image, "question": sentence}
        yield {**told, "box": _corners(item, item["bbox"]), "width": width, "height": height}


def _corners(item: Item, box: Any) -> list[float]:
    """Corners of COCO's (x, y, width, height)."""
    if not isinstance(box, list | tuple) or len(box) != 4 or min(box[2:]) <= 0:
        raise item.refuse("bbox", f"is {box!r}, must be x, y and a width and height above 0")
    x, y, width, height = map(float, box)
    return [x, y, x + width, y + height]
