"""Figure 5: the image attention of every sample in every layer as a heat map, from the files of `vrx job=score`."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from vrx.config.errors import UserError
from vrx.launch.logging import log
from vrx.report.paper import Paper
from vrx.report.plots import saved
from vrx.runs.files import read_json

FILE = "image_attention.json"


@dataclass(frozen=True)
class Heat:
    """A heat map to draw: `values` are samples x layers, `samples` (benchmark, id), those of a benchmark together."""

    name: str
    title: str
    model: str
    samples: tuple[tuple[str, str], ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def benchmarks(self) -> list[tuple[str, int]]:
        """Each benchmark and its number of samples, in the order of the samples."""
        return [(name, len(list(group))) for name, group in itertools.groupby(name for name, _ in self.samples)]


def find(root: Path, paper: Paper, *, model: str | None = None) -> list[Heat]:
    """The heat maps below an output root, of one model or of all; a file that cannot be read is told and left out."""
    found = []
    for path in sorted(root.glob(f"score/{model or '*'}/*/{FILE}")):
        name, source = path.parents[1].name, path.parent.name
        title = paper.models[name].title if name in paper.models else name
        title = f"{paper.artefacts['figure5'].title}, {title}, {source.rpartition('_')[0] or source}"
        try:
            told = read_json(path)
            samples = tuple((sample["benchmark"], sample["id"]) for sample in told["samples"])
            values = tuple(tuple(map(float, row)) for row in told["scores"])
            if not (len(samples) == len(values) > 0 and len(set(map(len, values))) == 1):
                raise UserError(f"{len(samples)} samples, {len(values)} rows of scores")
            if not all(math.isfinite(value) for row in values for value in row):
                raise UserError("a score that is no finite number")
        except (OSError, ValueError, KeyError, TypeError) as error:
            log(f"left out of the report: {path}: {error}")
            continue
        found.append(Heat(f"figure5_{name}_{source}", title, name, samples, values))
    return found


def as_rows(heat: Heat) -> tuple[list[str], list[list[str | int | float]]]:
    """The map as a table, a row a cell: the names of its columns, and the rows."""
    rows: list[list[str | int | float]] = [
        [benchmark, sample, layer, value]
        for (benchmark, sample), values in zip(heat.samples, heat.values, strict=True)
        for layer, value in enumerate(values)
    ]
    return ["benchmark", "sample", "layer", "image_attention"], rows


def as_text(heat: Heat) -> str:
    """The mean of each layer over all samples, and over each benchmark's."""
    lines = [heat.title]
    for name in ("all", *dict(heat.benchmarks)):
        rows = [row for (of, _), row in zip(heat.samples, heat.values, strict=True) if name in ("all", of)]
        means = [statistics.fmean(layer) for layer in zip(*rows, strict=True)]
        told = ", ".join(f"{layer}: {mean:.4f}" for layer, mean in enumerate(means))
        lines.append(f"  {name} ({len(rows)} samples): {told}")
    return "\n".join(lines) + "\n"


def draw(heat: Heat, form: str) -> bytes:
    """The map as `png` or `pdf`, the same bytes each time; its colours grow lighter with the value, in grey too."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.size": 9})
        figure = Figure(figsize=(7, 4.8), layout="constrained")
        figure.suptitle(heat.title, fontsize=10)
        axes = figure.subplots()
        ordered = sorted(value for row in heat.values for value in row)
        low, high = ordered[int(0.005 * len(ordered))], ordered[int(0.995 * len(ordered))]
        image = axes.imshow(heat.values, aspect="auto", cmap="cividis", vmin=low, vmax=high, interpolation="nearest")
        ends = list(itertools.accumulate(number for _, number in heat.benchmarks))
        for end in ends[:-1]:
            axes.axhline(end - 0.5, color="white", linewidth=1)
        middles = [end - number / 2 - 0.5 for end, (_, number) in zip(ends, heat.benchmarks, strict=True)]
        axes.set_yticks(middles, labels=[f"{name}\n{number} samples" for name, number in heat.benchmarks])
        axes.set_xlabel("decoder layer")
        figure.colorbar(image, ax=axes, label="image attention", extend="both")
        return saved(figure, form)
