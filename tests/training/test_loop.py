"""The loop's arithmetic: its loss, its batches, its schedule, whatever the cut into micro-batches."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from vrx.config.frozen import freeze
from vrx.config.schema import TrainConfig
from vrx.data import dataset, instruction_dataset, sampler
from vrx.data.batch import TrainingSample, collate
from vrx.data.encoding import IGNORE
from vrx.data.image_processing import Pixels
from vrx.jobs.finetune.driver import finetune
from vrx.models import loading
from vrx.training import schedule
from vrx.training.loss import LvlmWithLoss, num_supervised


def curve(run_dir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run_dir / "train.jsonl").read_text().splitlines()]


def worker(run, run_dir: Path) -> Path:
    """Run the train stage of a run in this process."""
    from vrx.jobs.finetune.worker import train

    digest = instruction_dataset.data_digest(run.instructions)
    table = instruction_dataset.table(run.instructions, run_dir / "data", digest=digest)
    run_dir.mkdir(exist_ok=True)
    (run_dir / "data.json").write_text(json.dumps({"table": str(table)}))
    (run_dir / "config.yaml").write_text(freeze(run))
    train(run, run_dir)
    return run_dir


SHORT = ("engine.name=torch", "train.max_steps=4", "train.global_batch_size=4", "train.warmup_ratio=0")


@pytest.fixture
def samples(make_run, world):
    run = make_run()
    table = instruction_dataset.table(
        run.instructions, world / "data", digest=instruction_dataset.data_digest(run.instructions)
    )
    tokenizer = loading.tokenizer_of(run.model)
    return dataset.TrainingDataset(
        instruction_dataset.open_table(table),
        run.model,
        tokenizer,
        image_token_id=loading.image_token_id(run.model, tokenizer),
        image_folder=Path(run.instructions.image_folder),
        on_bad_image="error",
    )


def test_micro_4_accumulate_1_equals_micro_1_accumulate_4(make_run, tmp_path):
    options = (*SHORT, "train.loss_average=token", "lora.dropout=0")
    whole = worker(make_run(*options, "train.micro_batch_size=4"), tmp_path / "whole")
    cut = worker(make_run(*options, "train.micro_batch_size=1"), tmp_path / "cut")
    assert curve(whole) == pytest.approx(curve(cut), abs=1e-5)


def test_the_papers_average_weighs_micro_batches_alike_and_so_differs(make_run, tmp_path):
    options = (*SHORT, "lora.dropout=0", "train.max_steps=1", "train.micro_batch_size=1")
    paper = curve(worker(make_run(*options), tmp_path / "paper"))
    token = curve(worker(make_run(*options, "train.loss_average=token"), tmp_path / "token"))
    assert paper != pytest.approx(token, abs=1e-4)


def test_checkpointed_activations_change_no_number(make_run, tmp_path):
    options = (*SHORT, "train.micro_batch_size=4", "lora.dropout=0")
    plain = curve(worker(make_run(*options), tmp_path / "plain"))
    recomputed = curve(worker(make_run(*options, "train.gradient_checkpointing=true"), tmp_path / "recomputed"))
    assert plain == pytest.approx(recomputed, abs=1e-5)


def test_the_loss_is_that_of_transformers(make_run, samples):
    run = make_run()
    lvlm = loading.load(run.model)
    batch = collate([samples[index] for index in range(6)], pad_token_id=samples.tokenizer.pad_token_id)
    with torch.inference_mode():
        ours = LvlmWithLoss(lvlm, Pixels(run.model).blank())(**batch.model_inputs())
        inputs = batch.model_inputs()
        theirs = lvlm(pixel_values=inputs.pop("pixels"), **inputs).loss
    assert ours.item() / num_supervised(batch) == pytest.approx(theirs.item(), abs=1e-5)


def test_text_without_images_gives_the_projector_a_gradient_of_exactly_zero(make_run, samples):
    run = make_run()
    lvlm = loading.load(run.model)
    loading.projector(lvlm).requires_grad_(True)
    row = next(index for index in range(len(samples)) if samples[index].pixels is None)
    batch = collate([samples[row]], pad_token_id=samples.tokenizer.pad_token_id)
    loss = LvlmWithLoss(lvlm, Pixels(run.model).blank())(**batch.model_inputs())
    loss.backward()
    assert loss.item() > 0
    for parameter in loading.projector(lvlm).parameters():
        assert parameter.grad is not None and not parameter.grad.any()


def test_padding_changes_no_loss(make_run, samples):
    run = make_run()
    module = LvlmWithLoss(loading.load(run.model), Pixels(run.model).blank())
    pad = samples.tokenizer.pad_token_id
    rows = [samples[index] for index in range(4)]

    def loss(parts):
        batch = collate(parts, pad_token_id=pad)
        with torch.inference_mode():
            return module(**batch.model_inputs()).item()

    assert loss(rows) == pytest.approx(sum(loss([row]) for row in rows), rel=1e-5)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_micro_batches_do_not_depend_on_the_number_of_ranks(ranks):
    config = TrainConfig(global_batch_size=8, micro_batch_size=2, epochs=2)
    plan = sampler.BatchPlan(list(range(30)), config, seed=3)
    chunks = [list(plan.of_rank(rank, ranks)) for rank in range(ranks)]
    joined = [chunks[number % ranks][number // ranks] for number in range(plan.num_steps * 4)]
    assert joined == [plan.chunk(step, number) for step in range(plan.num_steps) for number in range(4)]


def test_an_epoch_sees_every_row_and_epochs_differ():
    plan = sampler.BatchPlan(list(range(30)), TrainConfig(global_batch_size=8, micro_batch_size=4, epochs=2), seed=0)
    epochs = [[row for step in range(4) for n in range(2) for row in plan.chunk(step + 4 * e, n)] for e in range(2)]
    assert all(set(epoch) == set(range(30)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_schedule_warms_up_from_zero_and_falls_along_a_half_cosine():
    factors = [schedule.lr_factor(step, 100, warmup_ratio=0.03) for step in range(100)]
    assert factors[:4] == [0.0, 1 / 3, 2 / 3, 1.0]
    assert factors == sorted(factors[:4]) + sorted(factors[4:], reverse=True)
    assert factors[51] == pytest.approx(0.5 * (1 + math.cos(math.pi * 48 / 97)))


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_a_bad_image_found_while_training_follows_the_policy_and_is_told(make_run, samples, tmp_path, policy):
    row = next(index for index in range(len(samples)) if samples[index].pixels is not None)
    name = samples.rows[row]["image"]
    for path in samples.image_folder.rglob("*.png"):
        target = tmp_path / path.relative_to(samples.image_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() if target != tmp_path / name else path.read_bytes()[:60])
    samples.image_folder, samples.on_bad_image = tmp_path, policy
    found = samples[row]
    assert len(found.bad_images) == 1 and name in found.bad_images[0]
    silent = all(label == IGNORE for label in found.labels)
    assert silent == (policy == "skip")
    again = samples[row]
    assert (again.input_ids, again.labels) == (found.input_ids, found.labels)


def test_a_bad_image_is_an_error_by_default(samples, tmp_path):
    row = next(index for index in range(len(samples)) if samples[index].pixels is not None)
    samples.image_folder = tmp_path
    with pytest.raises(ValueError, match=r"record tiny_\d+: image .*no such file"):
        samples[row]


@pytest.mark.parametrize("late", [False, True], ids=["image first", "image later"])
def test_a_sample_whose_image_is_cut_trains_on_what_comes_before_it_and_is_counted(make_run, samples, late):
    """The official model keeps a part of the image's features; the labels before them do not see these."""
    table = samples.rows
    row = next(index for index in range(len(table)) if table[index]["image"])
    seen = {**table[row], "conversations": json.dumps(conversation(late))}
    samples.rows = [seen]
    whole = samples[0]
    first = whole.input_ids.index(samples.image_token_id)
    samples.config = dataclasses.replace(samples.config, max_length=first + 4)
    cut = samples[0]
    assert whole.cut_images == [] and len(cut.cut_images) == 1 and "model.max_length" in cut.cut_images[0]
    assert cut.pixels is None and not cut.bad_images
    assert (cut.input_ids, cut.labels) == (whole.input_ids[:first], whole.labels[:first])
    assert any(label != IGNORE for label in cut.labels) == late
    module = LvlmWithLoss(loading.load(samples.config), Pixels(samples.config).blank())
    official = TrainingSample(whole.input_ids[: first + 4], whole.labels[: first + 4])  # with a part of the image
    with torch.inference_mode():
        losses = [module(**collate([sample], pad_token_id=0).model_inputs()).item() for sample in (cut, official)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def conversation(late: bool) -> list[dict[str, str]]:
    image = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "red"}]
    text = [{"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "four"}]
    return text + image if late else image + text


def test_an_image_that_is_cut_off_whole_is_counted_too(samples):
    row = next(index for index in range(len(samples.rows)) if samples.rows[index]["image"])
    samples.rows = [{**samples.rows[row], "conversations": json.dumps(conversation(True))}]
    samples.config = dataclasses.replace(samples.config, max_length=5)
    found = samples[0]
    assert len(found.cut_images) == 1 and found.pixels is None and len(found.input_ids) == 5


def test_grouping_by_modality_is_another_order_of_training(make_run, tmp_path):
    run = make_run(*SHORT, "train.micro_batch_size=2", "train.group_by_modality=true", "train.max_steps=3")
    folder = worker(run, tmp_path / "grouped")
    plain = worker(make_run(*SHORT, "train.micro_batch_size=2", "train.max_steps=3"), tmp_path / "plain")
    assert len(curve(folder)) == 3 and curve(folder) != curve(plain)


def test_photographs_of_any_shape_and_mode_are_trained_on(make_run, tmp_path):
    records = []
    for number, (mode, size) in enumerate([("RGB", (90, 40)), ("L", (33, 70)), ("RGBA", (64, 64)), ("P", (5, 3))]):
        image = Image.linear_gradient("L").resize(size).convert(mode)
        image.save(tmp_path / f"{number}.png")
        turns = [
            {"from": "human", "value": "<image>\nWas ist das? — 这是什么?"},
            {"from": "gpt", "value": "A gradient."},
        ]
        records.append({"id": number, "image": f"{number}.png", "model": "", "conversations": turns})
    (tmp_path / "photos.json").write_text(json.dumps(records))
    options = (f"instructions.path={tmp_path}/photos.json", f"instructions.image_folder={tmp_path}")
    losses = curve(worker(make_run(*SHORT, "train.micro_batch_size=2", *options), tmp_path / "run"))
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_a_loss_that_is_not_finite_stops_the_run(make_run, tmp_path):
    run = make_run(*SHORT, "train.micro_batch_size=4", "train.lr=1e30", "train.projector_lr=1e30")
    with pytest.raises(ValueError, match=r"train\.lr=1e\+30: the loss of step \d is"):
        worker(run, tmp_path / "run")


def test_a_refusal_in_the_worker_is_one_line_in_the_driver(make_run, tmp_path):
    from vrx.config.errors import RunFailed

    run = make_run("model.num_layers=31", "engine.name=torch", f"runtime.output_root={tmp_path}")
    with pytest.raises(RunFailed, match=r"^model\.num_layers=31: .* has 32 decoder layers$"):
        finetune(run)
