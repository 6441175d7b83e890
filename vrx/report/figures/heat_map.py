"""Heat maps: a value for every sample and layer."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vrx.report.figures.figure import Chart, FileFormat, image_bytes, set_style

CLIPPED = 0.005  # share of the values at either end that lie beyond the colour scale


@dataclass(frozen=True)
class HeatMap:
    """A figure of `values` (samples x layers); `samples` are (benchmark, id), those of a benchmark together.

    None stands for a layer without a value, which stays blank; at least one value is a number.
    """

    name: str
    title: str
    value_name: str
    samples: tuple[tuple[str, str], ...]
    values: tuple[tuple[float | None, ...], ...]

    @property
    def benchmarks(self) -> list[tuple[str, int]]:
        """Each benchmark and its number of samples, in the order of the samples."""
        return [(name, len(list(group))) for name, group in itertools.groupby(name for name, _ in self.samples)]

    def as_text(self) -> str:
        """The mean of each layer over all samples, and over each benchmark's."""
        texts = [self.title]
        for name in ("all", *dict(self.benchmarks)):
            pairs = zip(self.samples, self.values, strict=True)
            rows = [row for (benchmark, _), row in pairs if name in ("all", benchmark)]
            means = enumerate(_mean_text(layer) for layer in zip(*rows, strict=True))
            numbers = ", ".join(f"{layer}: {mean}" for layer, mean in means)
            texts.append(f"  {name} ({len(rows)} samples): {numbers}")
        return "\n".join(texts) + "\n"

    def charts(self) -> list[Chart]:
        """One chart, layers from left to right, a row a sample; it has no cells where there is no value."""
        rows = tuple(
            (layer, f"{benchmark} {sample}", value)
            for (benchmark, sample), values in zip(self.samples, self.values, strict=True)
            for layer, value in enumerate(values)
            if value is not None
        )
        return [Chart(self.name, self.title, "heat map", ("layer", "sample", self.value_name), rows)]

    def draw(self, file_format: FileFormat) -> bytes:
        """The map as PNG or PDF, the same bytes each time; its colours grow lighter with the value, in grey too."""
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context():
            set_style()
            figure = Figure(figsize=(7, 4.8), layout="constrained")
            figure.suptitle(self.title, fontsize=10)
            axes = figure.subplots()
            low, high = self.colour_range()
            values = [[math.nan if value is None else value for value in row] for row in self.values]
            image = axes.imshow(values, aspect="auto", cmap="cividis", vmin=low, vmax=high, interpolation="nearest")
            ends = list(itertools.accumulate(number for _, number in self.benchmarks))
            for end in ends[:-1]:
                axes.axhline(end - 0.5, color="white", linewidth=1)
            middles = [end - number / 2 - 0.5 for end, (_, number) in zip(ends, self.benchmarks, strict=True)]
            axes.set_yticks(middles, labels=[f"{name}\n{number} samples" for name, number in self.benchmarks])
            axes.set_xlabel("decoder layer")
            figure.colorbar(image, ax=axes, label=self.value_name, extend="both")
            return image_bytes(figure, file_format)

    def colour_range(self) -> tuple[float, float]:
        """The values of the darkest and the lightest colour; a few lie beyond them."""
        ordered = sorted(value for row in self.values for value in row if value is not None)
        return ordered[int(CLIPPED * len(ordered))], ordered[int((1 - CLIPPED) * len(ordered))]


def _mean_text(values: Sequence[float | None]) -> str:
    present = [value for value in values if value is not None]
    return f"{statistics.fmean(present):.4f}" if present else "–"
