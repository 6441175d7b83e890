"""The training loop: how micro-batches are averaged, ordered and logged, and what stops it."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
import torch
from PIL import Image
from support.training import SHORT, train_here
from support.whole_runs import curve, rows

from vrx.config.errors import RunFailed, UserError
from vrx.data.batch import collate
from vrx.data.images.processing import Pixels
from vrx.data.sampler import BatchPlan
from vrx.jobs.finetune.driver import finetune
from vrx.launch.preemption import Preempted, stop_file
from vrx.models import loading
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import read_train_summary
from vrx.training.loss import LvlmWithLoss, num_supervised
from vrx.training.stage import open_data


def test_micro_4_accumulate_1_equals_micro_1_accumulate_4(make_run, tmp_path):
    options = (*SHORT, "train.loss_average=token", "lora.dropout=0")
    one_batch = train_here(make_run(*options, "train.micro_batch_size=4"), tmp_path / "one")
    four_batches = train_here(make_run(*options, "train.micro_batch_size=1"), tmp_path / "four")
    assert curve(one_batch) == pytest.approx(curve(four_batches), abs=1e-5)
    norms = [[row["grad_norm"] for row in rows(folder)] for folder in (one_batch, four_batches)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_the_papers_average_weighs_micro_batches_alike_and_the_other_tokens(make_run, tmp_path):
    options = (*SHORT, "lora.dropout=0", "train.max_steps=1", "train.micro_batch_size=1", "seed=1")
    run = make_run(*options)
    paper = curve(train_here(run, tmp_path / "paper"))
    token = curve(train_here(make_run(*options, "train.loss_average=token"), tmp_path / "token"))
    data, module = open_data(run, tmp_path / "paper"), LvlmWithLoss(loading.load(run.model), Pixels(run.model).blank())
    sums, counts = [], []
    for number in range(4):
        batch = collate([data.dataset[row] for row in data.plan.chunk(0, number)], pad_token_id=data.pad_token_id)
        with torch.inference_mode():
            sums.append(module(**batch.model_inputs()).item())
        counts.append(num_supervised(batch))
    means = [nll / count for nll, count in zip(sums, counts, strict=True)]
    assert len(set(counts)) > 1  # otherwise both averages are the same
    assert paper == pytest.approx([sum(means) / 4], abs=1e-5)
    assert token == pytest.approx([sum(sums) / sum(counts)], abs=1e-5)


def test_checkpointed_activations_change_no_number(make_run, tmp_path):
    options = (*SHORT, "train.micro_batch_size=4", "lora.dropout=0")
    plain = curve(train_here(make_run(*options), tmp_path / "plain"))
    recomputed = curve(train_here(make_run(*options, "train.gradient_checkpointing=true"), tmp_path / "recomputed"))
    assert plain == pytest.approx(recomputed, abs=1e-5)


def test_global_batches_grouped_by_modality_are_trained_in_the_order_of_the_plan(make_run, tmp_path):
    run = make_run(*SHORT, "train.micro_batch_size=2", "train.group_by_modality=true", "train.max_steps=3")
    logged = rows(train_here(run, tmp_path / "grouped"))
    data = open_data(run, tmp_path / "grouped")
    for step, row in enumerate(logged):
        samples = [data.dataset[index] for number in range(2) for index in data.plan.chunk(step, number)]
        assert len({sample.pixels is None for sample in samples}) == 1
        assert row["tokens"] == sum(len(sample.input_ids) for sample in samples)
    assert len(logged) == 3


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
    losses = curve(train_here(make_run(*SHORT, "train.micro_batch_size=2", *options), tmp_path / "run"))
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_samples_with_every_label_masked_are_listed_and_reported_once(make_run, tmp_path, capsys):
    """The third conversation has no answer."""
    records = []
    for number in range(4):
        turns = [{"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "four"}]
        if number == 2:
            turns = [{"from": "human", "value": "Two and two?"}]
        records.append({"id": number, "conversations": turns})
    (tmp_path / "data.json").write_text(json.dumps(records))
    options = (*SHORT, "train.micro_batch_size=2", f"instructions.path={tmp_path}/data.json")
    folder = train_here(make_run(*options, "train.max_steps=2"), tmp_path / "run")
    listed = [row["masked_samples"] for row in rows(folder)]
    assert [len(messages) for messages in listed] == [1, 1] and all("2" in messages[0] for messages in listed)
    assert read_train_summary(RunDir(folder).train_summary).masked_samples == [*listed[0], *listed[1]]
    told = capsys.readouterr().err
    assert told.count("teach nothing") == 1 and "2 of 8 samples taught nothing" in told


def test_training_stops_where_nothing_can_be_learnt(make_run, tmp_path):
    turns = [{"from": "human", "value": "Two and two?"}]
    (tmp_path / "data.json").write_text(json.dumps([{"id": number, "conversations": turns} for number in range(4)]))
    options = (*SHORT, "train.micro_batch_size=2", f"instructions.path={tmp_path}/data.json", "train.max_steps=2")
    with pytest.raises(UserError, match="nothing can be learnt from 4 samples, such as record"):
        train_here(make_run(*options), tmp_path / "run")


@pytest.mark.parametrize("answered", [True, False])
def test_a_resumed_run_counts_the_samples_before_its_checkpoint(make_run, tmp_path, capsys, answered):
    """Its last step alone comes after the checkpoint, and has a sample without an answer."""
    options = (*SHORT, "train.global_batch_size=1", "train.micro_batch_size=1", "train.max_steps=2")
    run = make_run(*options, f"instructions.path={tmp_path}/data.json")
    (first,) = BatchPlan([0, 1], run.train, seed=run.seed).chunk(0, 0)
    turns = [{"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "four"}]
    kept = [turns if answered and number == first else turns[:1] for number in range(2)]
    records = [{"id": number, "conversations": conversation} for number, conversation in enumerate(kept)]
    (tmp_path / "data.json").write_text(json.dumps(records))
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    stop_file(run_dir).touch()
    with pytest.raises(Preempted):
        train_here(run, run_dir)
    stop_file(run_dir).unlink()
    with nullcontext() if answered else pytest.raises(UserError, match="nothing can be learnt from 2 samples"):
        train_here(run, run_dir)
    assert ("1 of 2 samples taught nothing" in capsys.readouterr().err) == answered


def test_the_summary_adds_up_the_rows(make_run, tmp_path):
    folder = train_here(make_run(*SHORT, "train.micro_batch_size=2"), tmp_path / "run")
    logged, summary = rows(folder), read_train_summary(RunDir(folder).train_summary)
    seconds, flops = (sum(row[key] for row in logged) for key in ("seconds", "flops"))
    assert [row["samples"] for row in logged] == [4] * 4
    assert (summary.steps, summary.seconds, summary.flops) == (4, seconds, flops)
    assert summary.samples_per_second == 16 / seconds
    assert summary.tokens_per_second == sum(row["tokens"] for row in logged) / seconds
    assert summary.mfu == flops / seconds / summary.peak_flops_per_second
    assert summary.final_loss == logged[-1]["loss"] and summary.masked_samples == []


def test_a_run_of_an_earlier_version_is_resumed_and_summarized(make_run, tmp_path):
    """Its log says `operations` for FLOPs and has neither gradient norms nor numbers of samples."""
    from vrx.training import train_log

    folder = train_here(make_run(*SHORT, "train.micro_batch_size=2"), tmp_path / "run")
    logged = rows(folder)
    for row in logged:
        row["operations"] = row.pop("flops")
        del row["grad_norm"], row["samples"], row["masked_samples"]
    RunDir(folder).train_log.write_text("".join(json.dumps(row) + "\n" for row in logged) + '{"step": 4, "lo')
    train_log.rewind(folder, 3)
    assert [row["flops"] for row in rows(folder)] == [row["operations"] for row in logged[:3]]
    summary = train_log.summarize(
        folder, trainable_parameters=1, num_gpus=0, peak_memory_gb=1.0, peak_flops_per_second=1e9
    )
    assert summary.steps == 3 and summary.flops == sum(row["operations"] for row in logged[:3])
    assert summary.samples_per_second is None


@pytest.mark.parametrize(
    ("section", "key", "value", "why"),
    [
        ("train", "lr", 10**30, r"train\.lr=.*: the loss of step 1 is nan; use a smaller"),
        ("train", "lr", 10**4, r"train\.lr=.*: the norm of the gradient of step 1 is nan; use a smaller"),
        ("lora", "alpha", 10**30, r"train\.dtype=.*: the norm of the gradient of step 0 is inf, before any update"),
    ],
)
def test_a_loss_or_gradient_that_is_no_number_stops_a_run_before_weights_are_saved(
    make_run, tmp_path, section, key, value, why
):
    run = make_run(*SHORT, "train.micro_batch_size=4", "train.max_steps=2", "train.projector_lr=10000")
    setattr(getattr(run, section), key, value)  # even beyond what the command line takes
    with pytest.raises(UserError, match=f"^{why}"):
        train_here(run, tmp_path / "run")
    assert not RunDir(tmp_path / "run").adapter.exists()


def test_an_error_in_the_worker_is_one_line_in_the_driver(make_run, tmp_path):
    run = make_run("model.num_layers=31", "engine.name=torch", f"runtime.output_root={tmp_path}")
    with pytest.raises(RunFailed, match=r"^model\.num_layers=31: .* has 32 decoder layers$"):
        finetune(run)
