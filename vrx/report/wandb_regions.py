"""Regions on W&B: a table with a strip of the tuned layers in each row, and score against cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from vrx.report.page.regions import COSTS, ModelRegions

CELL, HEIGHT, LOW = 6, 24, 6  # pixels of a strip, as in `layer_strips`
COLUMNS = ("model", "region", "layers", "number of layers", "seeds", "score (%)", "standard error", "Pareto front")


def strip_image(tuned: Sequence[int], depth: int) -> Image.Image:
    """A strip of the layers: tuned ones are tall and dark, others low and light."""
    image = Image.new("RGB", (CELL * depth, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    for layer in range(depth):
        height, colour = (HEIGHT, "#0b4f86") if layer in tuned else (LOW, "#b9c2cb")
        draw.rectangle((CELL * layer, HEIGHT - height, CELL * layer + CELL - 2, HEIGHT - 1), fill=colour)
    return image


def region_rows(models: Sequence[ModelRegions]) -> list[list[Any]]:
    """A row for each region, without its picture: the columns, then each cost or None."""
    rows = []
    for model in models:
        front = model.front(model.cost_name) if model.cost_name else []
        for region in model.regions:
            start = [model.model, region.label, None, len(region.layers), len(region.runs)]
            scores = [region.score, region.error, region in front]
            rows.append([*start, *scores, *(region.costs.get(cost) for cost in COSTS)])
    return rows


def region_values(models: Sequence[ModelRegions]) -> dict[str, object]:
    """What the report's W&B run holds of the regions: the table, and for each model score against its first cost."""
    import wandb

    regions = [region for model in models for region in model.regions]
    if not regions:
        return {}
    rows = region_rows(models)
    for row, region in zip(rows, regions, strict=True):
        row[COLUMNS.index("layers")] = wandb.Image(strip_image(region.layers, region.runs[0].depth))
    values: dict[str, object] = {
        "regions": wandb.Table(columns=[*COLUMNS, *COSTS], data=rows)  # type: ignore[arg-type]
    }
    for model in models:
        if cost := model.cost_name:
            points = [[region.costs[cost], region.score, region.label] for region in model.regions]
            table = wandb.Table(columns=[cost, "score (%)", "region"], data=points)  # type: ignore[arg-type]
            title = f"Score against cost, {model.model}"
            values[f"charts/cost_{model.model}"] = wandb.plot.scatter(table, cost, "score (%)", title=title)
    return values
