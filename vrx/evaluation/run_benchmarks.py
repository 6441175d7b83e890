"""All benchmarks of a run asked of one LVLM: what is answered is left alone, the ranks' parts are joined at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vrx.config.schema import RunConfig
from vrx.data.batch import MicroBatch, TrainingSample, collate
from vrx.data.image_processing import open_rgb
from vrx.evaluation import benchmarks, prediction_files
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import Generator, Respond, generate
from vrx.evaluation.loglikelihood import responder
from vrx.evaluation.prediction_files import Agreement, PredictionHeader
from vrx.launch.logging import is_main, log
from vrx.launch.ranks import barrier
from vrx.metrics.answer import Answer
from vrx.runs import content_digest

ASKED_ALONE = 32  # questions of a benchmark, spread over it


def ask_all(generator: Generator, run: RunConfig, run_dir: Path) -> None:
    """Leave `answers/<benchmark>.jsonl` of every benchmark in the run's directory, which tells the weights' digest."""
    weights = content_digest.weights_digest(run.model, run_dir)
    for name, config in run.benchmark.items():
        samples = benchmarks.samples(name, config, limit=run.eval.limit)
        key = prediction_files.predictions_key(
            weights, samples, config.max_new_tokens, output_type=config.output_type, dtype=run.train.dtype
        )
        path = prediction_files.predictions_file(run_dir, name)
        if len(prediction_files.read_predictions(path, key)) == len(samples):
            continue
        respond, batch_size = responder(generator, config), run.eval.batch_size
        generate(generator, name, samples, run_dir, respond=respond, batch_size=batch_size, key=key)
        barrier()
        if is_main():
            header = PredictionHeader(key)
            if config.output_type != "loglikelihood" and batch_size > 1 and not generator.is_exact:
                predictions = prediction_files.read_parts(run_dir, name, key)
                header = PredictionHeader(key, agreement(generator, samples, predictions, respond))
            prediction_files.merge_parts(run_dir, name, samples, header)
            log(f"{name}: {len(samples)} questions answered")
        barrier()


def question_batches(generator: Generator, samples: Sequence[Sample], *, batch_size: int) -> Iterator[MicroBatch]:
    """Questions as the LVLM gets them, in their order; a batch is made when it is asked for."""
    pad = int(generator.tokenizer.pad_token_id)  # type: ignore[arg-type]
    for first in range(0, len(samples), batch_size):
        encoded = []
        for sample in samples[first : first + batch_size]:
            assert sample.image is not None, "drawn with an image"
            ids, pixels = generator.encode(sample), generator.pixels(open_rgb(sample.image))
            encoded.append(TrainingSample(ids, ids, pixels))
        yield collate(encoded, pad_token_id=pad)


def agreement(generator: Generator, samples: list[Sample], found: Mapping[str, Answer], respond: Respond) -> Agreement:
    """Of some questions, the share that is answered the same when asked alone; on a GPU or in bfloat16 not always 1."""
    chosen = samples[:: -(-len(samples) // ASKED_ALONE)]
    alone = [answer for sample in chosen for answer in respond([sample], [generator.encode(sample)])]
    same = sum(answer.text == found[answer.id].text for answer in alone)
    return {"value": same / len(chosen), "num_samples": len(chosen)}
