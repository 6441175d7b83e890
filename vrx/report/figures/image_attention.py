"""Figure 5: the image attention of every sample in every layer, from the files of `vrx score`."""

from __future__ import annotations

import math
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.paths import as_file_name
from vrx.launch.logging import log
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.heat_map import HeatMap
from vrx.runs.files import read_json
from vrx.runs.importance_files import SAMPLE_SCORES_NAME


def figure5(inputs: FigureInputs) -> list[HeatMap]:
    """A heat map for each file of image attention below the output root.

    A file that cannot be read is left out with one line that names it.
    """
    heat_maps = []
    pattern = f"score/{inputs.model or '*'}/*/{SAMPLE_SCORES_NAME}"
    paths = {path.parts[-3:]: path for root in reversed(inputs.roots) for path in root.glob(pattern)}
    for path in sorted(paths.values()):
        try:
            heat_maps.append(read_heat_map(path, inputs))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log(f"left out of the report: {path}: {error}")
    return heat_maps


def read_heat_map(path: Path, inputs: FigureInputs) -> HeatMap:
    """The heat map of one file; `ValueError`, `KeyError` or `TypeError` where its content has another form.

    Layers without attention have no score in any sample; their columns stay blank.
    """
    model, source = path.parents[1].name, path.parent.name
    content = read_json(path)
    samples = tuple((sample["benchmark"], sample["id"]) for sample in content["samples"])
    values = tuple(tuple(None if score is None else float(score) for score in row) for row in content["scores"])
    if not (len(samples) == len(values) > 0 and len(set(map(len, values))) == 1):
        raise UserError(f"{len(samples)} samples, {len(values)} rows of scores")
    scores = [value for row in values for value in row if value is not None]
    if not scores:
        raise UserError("no image attention: the pictures of this model have no tokens in the text")
    if not all(map(math.isfinite, scores)):
        raise UserError("a score is not a finite number")
    run_label = source.rpartition("_")[0] or source
    title = f"{inputs.paper.artifacts['figure5'].title}, {inputs.model_title(model)}, {run_label}"
    return HeatMap(as_file_name(f"figure5_{model}_{source}"), title, "image attention", samples, values)
