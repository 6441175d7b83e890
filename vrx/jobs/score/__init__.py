"""Computes importance scores of every decoder layer. Names the files that its driver and its worker share."""

from __future__ import annotations

from pathlib import Path

from vrx.runs.importance_files import SAMPLE_SCORES_NAME, SCORES_NAME


def inputs_file(run_dir: Path) -> Path:
    """What the scores are made from; the worker copies it into the score file."""
    return run_dir / "inputs.json"


def sample_scores_file(run_dir: Path) -> Path:
    """`image_attention` of every single sample, for Figure 5."""
    return run_dir / SAMPLE_SCORES_NAME


def scores_file(run_dir: Path) -> Path:
    """The importance of every layer by every formula; the last file that the worker writes."""
    return run_dir / SCORES_NAME
