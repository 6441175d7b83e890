"""RefCOCOg: the box of a described object. Official `refs(umd).p` and `instances.json`, or lmms-lab/RefCOCOg."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import NoReturn

from PIL import Image

from vrx.config.errors import UserError
from vrx.evaluation.dataset_files import read_json, read_unpacked
from vrx.evaluation.dataset_source import Item, Source
from vrx.evaluation.question_rows import GroundingRow


class _PlainDataUnpickler(pickle.Unpickler):
    """Reads lists, dictionaries, numbers and texts; a pickle that needs anything else is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"asks for {module}.{name}; a list of references is plain data")


def rows(source: Source) -> Iterator[GroundingRow]:
    """One row a sentence (9,602 about 5,023 objects in the test split); boxes as corners in pixels."""
    files = source.find_files("refs(umd).p")
    if not files:
        for item in source.hub_items():
            yield from _hub_rows(source, item)
        return
    instances = source.find_beside("instances.json")
    if not instances:
        raise source.missing_files("instances.json")
    content = read_json(instances[0])
    images = {row["id"]: row for row in content["images"]}
    boxes = {row["id"]: row["bbox"] for row in content["annotations"]}
    try:
        references = _PlainDataUnpickler(io.BytesIO(read_unpacked(files[0])), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{files[0]}: {error}") from None
    splits = {reference["split"] for reference in references}
    if source.split not in splits:
        raise UserError(f"{source.key}.split={source.split}: valid are {', '.join(sorted(splits))}")
    for item in source.items(references):
        if item["split"] != source.split:
            continue
        if item["image_id"] not in images or item["ann_id"] not in boxes:
            raise item.error("ann_id", f"{item['ann_id']} of image {item['image_id']} is not in {instances[0].name}")
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


def _hub_rows(source: Source, item: Item) -> Iterator[GroundingRow]:
    image = source.save_image(item, item.text("file_name").rpartition(".")[0])
    with Image.open(io.BytesIO(item["image"]["bytes"])) as picture:
        width, height = picture.size
    for number, sentence in enumerate(item.texts("answer")):
        yield {
            "id": f"{item.text('question_id')}_{number}",
            "image": image,
            "question": sentence,
            "box": _corners(item, item["bbox"]),
            "width": width,
            "height": height,
        }


def _corners(item: Item, box: object) -> list[float]:
    """Corners of COCO's (x, y, width, height)."""
    if not isinstance(box, list | tuple) or len(box) != 4 or min(box[2:]) <= 0:
        raise item.error("bbox", f"is {box!r}, must be x, y and a width and height above 0")
    x, y, width, height = map(float, box)
    return [x, y, x + width, y + height]
