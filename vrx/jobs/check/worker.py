"""The stage `check`: the loaders of the model, its tokenizer and its images, and the encoding of conversations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig, RunConfig
from vrx.data import run_data
from vrx.data.batch import TrainingSample
from vrx.data.conversations import chat_dataset
from vrx.data.images.processing import Pixels
from vrx.data.instructions import dataset, instruction_dataset
from vrx.jobs.check import findings_file
from vrx.jobs.check.findings import Finding
from vrx.launch.ranks import set_ready
from vrx.models import loading
from vrx.runs.files import read_json, write_json
from vrx.runs.run_dir import RunDir

NUM_ENCODED = 500  # conversations, evenly spaced
NUM_WITH_PICTURES = 100  # of those whose pictures are processed too


def check(run: RunConfig, run_dir: Path) -> None:
    """Write what the loaders find into the folder of the check."""
    set_ready(run_dir)
    findings = _model(run.model)
    table = read_json(RunDir(run_dir).data)["table"]
    if table is not None and not any(finding.bad for finding in findings):
        of_kind = _conversations if run.model.is_assembled else _chats
        findings.append(of_kind(run, Path(table)))
    write_json(findings_file(run_dir), [dataclasses.asdict(finding) for finding in findings])


def _model(model: ModelConfig) -> list[Finding]:
    try:
        if model.is_assembled:
            Pixels(model)
        loading.load(model, on_meta=True)
    except UserError as error:
        return [Finding("loaders", str(error), bad=True)]
    return [Finding("loaders", "read all parts of the model; weights were not loaded")]


def _conversations(run: RunConfig, table: Path) -> Finding:
    """How many of some conversations teach nothing, or lose their image to `model.max_length`."""
    rows = instruction_dataset.open_table(table)
    tokenizer = loading.load_model_tokenizer(run.model)
    encoder = dataset.TrainingDataset(
        rows,
        run.model,
        tokenizer,
        image_token_id=loading.image_token_id(run.model, tokenizer),
        image_folder=None,
        on_bad_image="error",
    )
    numbers = range(0, len(rows), -(-len(rows) // NUM_ENCODED))

    def sample(number: int) -> TrainingSample:
        row = rows[number]
        name = f"record {number}" + (f" (id {row['id']})" if row["id"] else "")
        return encoder.encode(row["conversations"], has_image=row["image"] is not None, record=name)

    return _encoded(map(sample, numbers))


def _chats(run: RunConfig, table: Path) -> Finding:
    """The same of a model with its own processor and chat template, which may refuse a conversation."""
    rows, _ = run_data.open_rows(run, table)
    encoder = chat_dataset.load_encoder(run.model)
    samples = chat_dataset.ChatDataset(rows, encoder, on_bad_image="skip")
    numbers = range(0, len(rows), -(-len(rows) // NUM_WITH_PICTURES))
    try:
        return _encoded(samples[number] for number in numbers)
    except UserError as error:
        return Finding("conversations", str(error), bad=True)


def _encoded(samples: Iterable[TrainingSample]) -> Finding:
    total, masked, cut = 0, [], []
    for sample in samples:
        total += 1
        masked += sample.masked_samples
        cut += sample.cut_images
    message = f"{total:,} encoded"
    if masked:
        message += f"; {len(masked):,} teach nothing, the first: {masked[0]}"
    if cut:
        message += f"; {len(cut):,} lose their image, the first: {cut[0]}"
    return Finding("conversations", message, bad=len(masked) == total, note=bool(masked or cut))
