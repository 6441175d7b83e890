"""`vrx score-answers`: answers of another program become a record; with `write_to`, ours become files for others."""

from __future__ import annotations

from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.job_options import ScoreAnswersConfig, required
from vrx.config.paths import as_file_name, below
from vrx.config.schema import RunConfig
from vrx.evaluation import answers_elsewhere, evaluate_run, scoring
from vrx.evaluation.chance import chance_level
from vrx.evaluation.prediction_files import (
    PredictionHeader,
    load_predictions,
    questions_digest,
    with_current_references,
    write_predictions,
)
from vrx.launch.logging import log
from vrx.metrics.answer import Answer
from vrx.report.run_summary import format_run_summary
from vrx.runs.files import digest, file_digest, write_atomic
from vrx.runs.locks import exclusive_lock
from vrx.runs.record import ModelFacts, Record, ScoreEntry, read_record
from vrx.runs.run_dir import RunDir
from vrx.runs.status import require_record
from vrx.runs.typed_json import from_json, to_json

FILE = "score_answers.file"


def score_answers(run: RunConfig) -> None:
    """Score the answers of `score_answers.file`, or write those of `job.run` to `score_answers.write_to`."""
    options = required(run.score_answers)
    if (options.file is None) == (options.write_to is None):
        raise UserError(f"{FILE}={options.file}: valid is either {FILE} or score_answers.write_to, not both")
    evaluate_run.make_world(run)
    if options.write_to is not None:
        _write_for_others(run, Path(options.write_to))
    else:
        _score_theirs(run, options)


def _score_theirs(run: RunConfig, options: ScoreAnswersConfig) -> None:
    """The record of a model that only its answers are known of; each command adds a benchmark to it."""
    if len(run.benchmark) != 1:
        names = ",".join(run.benchmark)
        raise UserError(f"benchmark=[{names}]: {FILE} holds the answers to one benchmark; valid: benchmark=[gqa]")
    if options.name is None:
        raise UserError("score_answers.name=null: name the model that answered; its record is kept under this name")
    ((name, config),) = run.benchmark.items()
    if config.output_type != "text":
        raise UserError(f"benchmark=[{name}]: needs {config.output_type}, which a file of texts does not have")
    samples = evaluate_run.check_benchmarks(run)[name]
    frames = [answers_elsewhere.box_frame(sample, key=f"benchmark.{name}") for sample in samples]
    path = Path(str(options.file))
    texts = answers_elsewhere.read_answers(path, [sample.answer.id for sample in samples], key=FILE)
    given = {
        sample.answer.id: Answer(sample.answer.id, texts[sample.answer.id], (), box_frame=frame)
        for sample, frame in zip(samples, frames, strict=True)
    }
    answers = with_current_references(samples, given)
    identity = {"model": {"num_layers": run.model.num_layers}, "weights": {"answers_of": options.name}}
    run_id = digest(identity)[:8]
    run_dir = below(run.runtime.output_path, run.job.name, options.name) / f"answers_{run_id}"
    entry = from_json(ScoreEntry, scoring.score_benchmark(config, answers))
    entry.chance = chance_level(config, answers)
    with exclusive_lock(run_dir):
        header = PredictionHeader(
            key=file_digest(path)[:16],
            benchmark=to_json(config),
            weights=digest(identity),
            questions=questions_digest(samples),
        )
        write_predictions(RunDir(run_dir).predictions(name), header, answers)
        record = Record(run_id, identity, ModelFacts(options.name, run.model.num_layers), [], {})
        if RunDir(run_dir).record.is_file():
            record = read_record(RunDir(run_dir).record)
        record.scores[name] = entry
        record.write(RunDir(run_dir).record)
    print(format_run_summary(record, None))
    print(f"record: {RunDir(run_dir).record}")


def _write_for_others(run: RunConfig, target: Path) -> None:
    """Write the answers of a finished run in the form of each other program, a file a benchmark."""
    if run.job.run is None:
        raise UserError("job.run=null: score_answers.write_to writes the answers of a finished run; name its directory")
    run_dir = Path(run.job.run)
    require_record(run_dir)
    record = read_record(RunDir(run_dir).record)
    names = [name for name in run.benchmark if name in record.scores]
    if not names:
        valid = ",".join(record.scores)
        raise UserError(f"benchmark=[{','.join(run.benchmark)}]: not answered by {run_dir.name}; valid: [{valid}]")
    files: dict[Path, str] = {}
    for name, samples in evaluate_run.check_benchmarks(run).items():
        predictions = load_predictions(RunDir(run_dir).predictions(name)) if name in names else None
        answered = [each for each in samples if predictions and each.answer.id in predictions.answers]
        if predictions is None or not answered:
            log(f"left out: {name}, which {run_dir.name} has no answers to")
            continue
        texts = {question: answer.text for question, answer in predictions.answers.items()}
        for program, (ending, write) in answers_elsewhere.WRITERS.items():
            stem = as_file_name(f"{record.model.name}_{name}") if program == "vlmevalkit" else as_file_name(name)
            files[target / program / f"{stem}.{ending}"] = write(
                answered, texts, model=record.model.name, benchmark=name
            )
    if taken := [path for path in files if path.exists()]:
        raise UserError(f"score_answers.write_to={target}: {taken[0]} exists; name another folder")
    for path, content in files.items():
        write_atomic(path, content)
    print(f"{len(files)} files: {target}")
