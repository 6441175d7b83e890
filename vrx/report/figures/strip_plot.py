"""Strip plots: where values fall among those of random selections, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vrx.report.figures.figure import Chart, FileFormat, image_bytes, set_style

COLUMNS = ("selector", "average", "standard error", "percentile among random selections")


def percentile(value: float, values: Sequence[float]) -> float:
    """The share of the values below a value, in percent; equal ones count half."""
    below, equal = sum(other < value for other in values), sum(other == value for other in values)
    return 100 * (below + equal / 2) / len(values)


@dataclass(frozen=True)
class StripRow:
    """A value under a name, with its standard error."""

    name: str
    value: float
    error: float | None = None


@dataclass(frozen=True)
class StripPlot:
    """A figure of rows against `random`, the values of random selections; at least one of these."""

    name: str
    title: str
    value_name: str
    random: tuple[float, ...]
    rows: tuple[StripRow, ...]

    def as_text(self) -> str:
        """The range of the random selections, then each row with its percentile."""
        low, high, number = min(self.random), max(self.random), len(self.random)
        mean = sum(self.random) / number
        lines = [self.title, f"  {number} random selections: {low:.2f} to {high:.2f}, mean {mean:.2f}"]
        for row in self.rows:
            error = "" if row.error is None else f" ±{row.error:.2f}"
            place = percentile(row.value, self.random)
            lines.append(f"  {row.name}: {row.value:.2f}{error}, percentile {place:.0f}")
        return "\n".join(lines) + "\n"

    def charts(self) -> list[Chart]:
        """One table."""
        rows = tuple(
            (row.name, row.value, "" if row.error is None else row.error, percentile(row.value, self.random))
            for row in self.rows
        )
        return [Chart(self.name, self.title, "table", COLUMNS, rows)]

    def draw(self, file_format: FileFormat) -> bytes:
        """The plot as PNG or PDF: random selections as dots in the lowest row, their range as a band behind all."""
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context():
            set_style()
            matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
            figure = Figure(figsize=(7, 1.6 + 0.24 * len(self.rows)), layout="constrained")
            figure.suptitle(self.title, fontsize=10)
            axes = figure.subplots()
            axes.axvspan(min(self.random), max(self.random), color="#EEEEEE")
            heights = [0.15 * (number % 5 - 2) for number in range(len(self.random))]  # apart, so that equal ones show
            axes.plot(sorted(self.random), heights, "o", color="#777777", markersize=4, markerfacecolor="none")
            for height, row in enumerate(self.rows, start=1):
                axes.errorbar(row.value, height, xerr=row.error, fmt="o", color="#0072B2", capsize=3, markersize=5)
            places = [f"{row.name} ({percentile(row.value, self.random):.0f} %)" for row in self.rows]
            labels = [f"{len(self.random)} random selections", *places]
            axes.set_yticks(range(len(labels)), labels=labels)
            axes.set_xlabel(self.value_name)
            axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
            return image_bytes(figure, file_format)
