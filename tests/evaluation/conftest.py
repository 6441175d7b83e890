"""The embedded LVLM as a generator, and benchmarks of `conf/benchmark` on data that a test writes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.composing import composed
from support.generating import generator_of
from support.hub_datasets import table

from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.generation import Generator


@pytest.fixture(scope="module")
def tiny(world: Path) -> Generator:
    return generator_of(composed([f"runtime.output_root={world}"]))


@pytest.fixture(scope="session")
def configs() -> dict[str, BenchmarkConfig]:
    return composed(["benchmark=[all,perplexity,flickr30k]"]).benchmark


@pytest.fixture
def ask(tmp_path: Path, configs: dict[str, BenchmarkConfig]) -> Callable[..., BenchmarkConfig]:
    """A benchmark of `conf/benchmark` whose data are files in a folder, by name: bytes, text, or what becomes JSON."""

    def make(name: str, files: dict[str, Any] | str, **options: Any) -> BenchmarkConfig:
        for file, content in files.items() if isinstance(files, dict) else ():
            path = tmp_path / "data" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            content = content if isinstance(content, str | bytes) else json.dumps(content)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        path = files if isinstance(files, str) else str(tmp_path / "data")
        texts = {key: str(value) for key, value in options.items()}
        return dataclasses.replace(configs[name], path=path, cache=str(tmp_path / "cache"), **texts)

    return make


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Rows as a data set in a folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")

    def save(rows: list[dict[str, Any]], *, split: str = "test", parquet: bool = False) -> str:
        splits = {split: table(rows)}
        if split == "test" and not any(column.startswith("image") for column in rows[0]):
            splits["dev"] = table(5 * [rows[0]])
        folder = tmp_path / "hub"
        if parquet:
            (folder / "data").mkdir(parents=True)
            for name, data in splits.items():
                data.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
        else:
            datasets.DatasetDict(splits).save_to_disk(folder)
        return str(folder)

    return save
