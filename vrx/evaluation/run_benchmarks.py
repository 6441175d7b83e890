"""Runs all benchmarks of a run with one LVLM, skips finished ones and merges the predictions of the ranks."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig, RunConfig
from vrx.evaluation import benchmarks, prediction_files
from vrx.evaluation.dataset_cache import dataset_commit
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import AnswerFunction, EncodedSample, Generator, text_answer_function
from vrx.evaluation.loglikelihood import loglikelihoods
from vrx.evaluation.prediction_files import Agreement, PredictionHeader
from vrx.launch.devices import device, device_facts
from vrx.launch.logging import is_main, log, rank
from vrx.launch.ranks import barrier, world_size
from vrx.metrics.answer import Answer
from vrx.runs import content_digest
from vrx.runs.provenance import current_provenance
from vrx.runs.typed_json import to_json

UNLIMITED_TOKENS = 1 << 40  # in a batch on a GPU, until its memory refuses one
CPU_TOKENS = 1 << 14  # in a batch on a CPU, whose memory runs out without a refusal
NUM_AGREEMENT_SAMPLES = 32  # questions of a benchmark, evenly spaced, that are answered again alone


def run_benchmarks(generator: Generator, run: RunConfig, run_dir: Path) -> None:
    """Write the prediction file of every benchmark of a run; `run_dir` is the directory whose weights are loaded."""
    weights = content_digest.weights_digest(run.model, run_dir)
    for name, config in run.benchmark.items():
        samples = benchmarks.samples(name, config, limit=run.eval.limit)
        key = prediction_files.predictions_key(
            weights, samples, config.max_new_tokens, output_type=config.output_type, dtype=run.train.dtype
        )
        path = prediction_files.predictions_file(run_dir, name)
        if len(prediction_files.read_predictions(path, key)) == len(samples):
            continue
        answer, batch_size = answer_function(generator, config), run.eval.batch_size
        predict(
            generator,
            name,
            samples,
            run_dir,
            answer=answer,
            batch_size=batch_size,
            key=key,
            num_workers=run.runtime.num_workers,
        )
        barrier()
        if is_main():
            header = PredictionHeader(
                key,
                benchmark=dataclasses.asdict(config),
                weights=weights,
                questions=prediction_files.questions_digest(samples, output_type=config.output_type),
                dataset_commit=dataset_commit(config),
                provenance=to_json(current_provenance(**device_facts())),
            )
            if config.output_type != "loglikelihood" and batch_size > 1 and not generator.is_exact:
                predictions = prediction_files.read_parts(run_dir, name, key)
                header = dataclasses.replace(
                    header, agreement=agreement_with_batch_1(generator, samples, predictions, answer)
                )
            prediction_files.merge_parts(run_dir, name, samples, header)
            log(f"{name}: {len(samples)} questions answered")
        barrier()


def answer_function(generator: Generator, config: BenchmarkConfig) -> AnswerFunction:
    """The function that answers a batch of a benchmark, by its `output_type`."""
    if config.output_type == "loglikelihood":
        return lambda batch: loglikelihoods(generator, batch)
    return text_answer_function(generator, config.max_new_tokens, letters=config.output_type == "letters")


def predict(
    generator: Generator,
    name: str,
    samples: Sequence[Sample],
    run_dir: Path,
    *,
    answer: AnswerFunction,
    batch_size: int,
    key: str,
    num_workers: int = 0,
) -> None:
    """Answer this rank's share of a benchmark into its part file, batch by batch; samples answered before are skipped.

    Batches hold prompts of similar length, the longest first, so that a batch which does not fit into the GPU's memory
    shows at once; batches hold half as many tokens from then on. A killed process loses only its current batch.
    """
    mine = rank_share(samples, done=prediction_files.read_parts(run_dir, name, key))
    prompts = sorted(
        ((generator.prompt_ids(sample), sample) for sample in mine),
        key=lambda prompt: (-len(prompt[0]), prompt[1].answer.id),
    )
    loading = generator.encode_all(prompts, num_workers=num_workers, num_ahead=2 * batch_size)
    part = prediction_files.part_file(run_dir, name, rank())
    written = prediction_files.read_predictions(part, key).values()
    prediction_files.write_predictions(part, PredictionHeader(key), written)  # without a last line that was cut
    max_tokens = UNLIMITED_TOKENS if device().type == "cuda" else CPU_TOKENS
    loaded: list[EncodedSample] = []  # not answered yet
    num_answered = 0
    bar = tqdm(total=len(mine), desc=name, unit="question", disable=not is_main(), delay=1, leave=False)
    with part.open("a", encoding="utf-8") as file, bar:
        while num_answered < len(prompts):
            longest = len(prompts[num_answered][0])
            size = max(1, min(batch_size, max_tokens // longest, len(prompts) - num_answered))
            loaded += islice(loading, max(0, size - len(loaded)))
            try:
                answers = answer(loaded[:size])
            except torch.cuda.OutOfMemoryError:
                answers = None  # outside the handler, whose traceback holds the tensors
            if answers is None:
                max_tokens = _halved(name, size) * longest
                continue
            for prediction in answers:
                prediction_files.write_prediction(file, prediction)
            file.flush()
            loaded, num_answered = loaded[size:], num_answered + size
            bar.update(size)


def rank_share(samples: Sequence[Sample], *, done: Container[str]) -> list[Sample]:
    """The samples that this rank has to answer. `done` does not change which rank owns a sample: ranks may see it at
    different times."""
    return [sample for sample in samples[rank() :: world_size()] if sample.answer.id not in done]


def agreement_with_batch_1(
    generator: Generator, samples: Sequence[Sample], predictions: Mapping[str, Answer], answer: AnswerFunction
) -> Agreement:
    """How many of some questions get the same answer alone as in their batch; below 1 at times on a GPU or in bf16."""
    chosen = samples[:: -(-len(samples) // NUM_AGREEMENT_SAMPLES)]
    alone = [prediction for sample in chosen for prediction in answer([generator.encode(sample)])]
    num_same = sum(prediction.text == predictions[prediction.id].text for prediction in alone)
    return {"value": num_same / len(chosen), "num_samples": len(chosen)}


def _halved(name: str, size: int) -> int:
    """Half of a batch size that did not fit into the GPU's memory; `UserError` for a batch of one."""
    torch.cuda.empty_cache()
    if size == 1:
        raise UserError(f"benchmark.{name}: one question does not fit into the GPU's memory; use a larger or free GPU")
    log(f"{name}: {size} questions do not fit into the GPU's memory at once; continuing with half as many")
    return size // 2
