"""RefCOCOg: the box of a described object. Official `refs(umd).p` and `instances.json`, or lmms-lab/RefCOCOg."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import NoReturn

from PIL import Image

from vrx.config.errors import UserError
from vrx.evaluation.dataset_files import read_unpacked
from vrx.evaluation.dataset_items import Item
from vrx.evaluation.dataset_source import Source
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
    content = source.document(instances[0])
    images = {image.whole("id"): image for image in content.items("images")}
    boxes = {box.whole("id"): box for box in content.items("annotations")}
    try:
        references = _PlainDataUnpickler(io.BytesIO(read_unpacked(files[0])), encoding="latin1").load()
    except Exception as error:  # of a damaged pickle, many kinds
        raise UserError(f"{files[0]}: {error or type(error).__name__}") from None
    splits = {item.text("split") for item in source.items(references)}
    if source.split not in splits:
        raise UserError(f"{source.key}.split={source.split}: valid are {', '.join(sorted(splits))}")
    for item in source.items(references):
        if item["split"] != source.split:
            continue
        image_id, box_id = item.whole("image_id"), item.whole("ann_id")
        if image_id not in images or box_id not in boxes:
            raise item.error("ann_id", f"{box_id} of image {image_id} is not in {instances[0].name}")
        image = images[image_id]
        for sentence in item.items("sentences"):
            yield {
                "id": sentence.text("sent_id"),
                "image": image.text("file_name"),
                "question": sentence.text("sent"),
                "box": _corners(boxes[box_id]),
                "width": image.whole("width"),
                "height": image.whole("height"),
            }


def _hub_rows(source: Source, item: Item) -> Iterator[GroundingRow]:
    image = source.save_image(item, item.text("file_name").rpartition(".")[0])
    with Image.open(source.images / image) as picture:
        width, height = picture.size
    for number, sentence in enumerate(item.texts("answer")):
        yield {
            "id": f"{item.text('question_id')}_{number}",
            "image": image,
            "question": sentence,
            "box": _corners(item),
            "width": width,
            "height": height,
        }


def _corners(item: Item) -> list[float]:
    """Corners of COCO's (x, y, width, height)."""
    x, y, width, height = item.numbers("bbox", 4)
    if min(width, height) <= 0:
        raise item.error("bbox", f"is {item['bbox']!r}, must be x, y and a width and height above 0")
    return [x, y, x + width, y + height]
