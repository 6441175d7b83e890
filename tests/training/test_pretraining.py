"""The projector's training in the test's own process: what is learned, from what, and what stays as it was."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.captions import write_captions
from support.whole_runs import rows
from transformers import get_cosine_schedule_with_warmup

from vrx.data.batch import collate
from vrx.data.instructions import captions, instruction_dataset
from vrx.data.instructions.encoding import IGNORE
from vrx.models import fit, loading, projector_weights
from vrx.models.lvlm import PROJECTOR, projector
from vrx.runs.run_dir import RunDir
from vrx.training import setup, stage
from vrx.training.loss import num_supervised
from vrx.training.whitening import EPSILON
from vrx.training.word_alignment import NORM_WEIGHT, SCALE, WordAlignment

STEPS = ("engine.name=torch", "train.max_steps=8", "train.global_batch_size=4", "train.micro_batch_size=2")


@pytest.fixture
def caption_run(make_run, tmp_path, request):
    """A pre-training of the embedded LVLM and its directory, with its captions converted; `request` has options."""
    options = (*STEPS, "captions.template=plain", *write_captions(tmp_path))
    run = make_run("job=pretrain", *options, *getattr(request, "param", ()))
    digest = instruction_dataset.data_digest(run.captions)
    table = instruction_dataset.build_table(run.captions, tmp_path / "data", digest=digest)
    captions.require_captions(table, run.captions)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    RunDir(run_dir).data.write_text(json.dumps({"table": str(table)}))
    return run, run_dir


def train(run, run_dir: Path):
    """Train as the worker does; gives the model and copies of its tensors before."""
    data = stage.open_data(run, run_dir, run.captions)
    run, off = setup.decide_switches(run, data.words, num_steps=data.plan.num_steps)
    model = setup.load_with_fresh_projector(run, data.sample_pictures(8))
    before = {name: tensor.clone() for name, tensor in model.lvlm.state_dict().items()}
    stage.train_model(
        run,
        run_dir,
        model,
        data,
        num_layers=0,
        off=off,
        message="training",
        result=RunDir(run_dir).projector,
        save=projector_weights.save_projector,
    )
    return model, before


def test_only_the_projector_moves_and_it_is_what_is_saved(caption_run):
    run, run_dir = caption_run
    model, before = train(run, run_dir)
    after = model.lvlm.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith(PROJECTOR)} and len(moved) == 4
    saved = load_file(RunDir(run_dir).projector / "projector.safetensors")
    assert {PROJECTOR + name for name in saved} == moved
    assert all(torch.equal(saved[name], after[PROJECTOR + name]) for name in saved)


def test_learning_rate_follows_llavas_cosine_with_warm_up(caption_run):
    run, run_dir = caption_run
    model, _ = train(run, run_dir)
    optimizer = torch.optim.AdamW(model.trainable.values(), lr=run.train.lr)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(0.03 * 8), 8)
    expected = []
    for _ in range(8):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert [row["lr"] for row in rows(run_dir)] == pytest.approx(expected)
    assert expected[0] == 0 and max(expected) == run.train.lr


@torch.no_grad()
def reference_loss(lvlm, sample, caption: str, tokenizer) -> float:
    """Mean -log p of the caption's tokens and the line end after it, from logits of transformers."""
    target = tokenizer(caption + "\n", add_special_tokens=False)["input_ids"]
    assert sample.input_ids[-len(target) :] == target
    ids = torch.tensor([sample.input_ids])
    logits = lvlm(input_ids=ids, pixel_values=sample.pixels[None]).logits[0]
    predicted = logits[-len(target) - 1 : -1].log_softmax(-1)
    return -predicted[range(len(target)), target].mean().item()


@pytest.mark.parametrize(
    "caption_run", [(), ("recipe=fast", "runtime.num_workers=0")], ids=["paper", "fast"], indirect=True
)
def test_loss_is_that_of_the_caption_and_its_end_alone(caption_run):
    """The first row of the log is the mean over micro-batches of the means over their supervised tokens."""
    run, run_dir = caption_run
    data = stage.open_data(run, run_dir, run.captions)
    state = projector_weights.fresh_projector(run.model, seed=run.seed)
    lvlm = loading.load(run.model, projector_state=state)
    texts = [json.loads(row["conversations"])[1]["value"] for row in data.dataset.rows]
    means = []
    for number in range(data.plan.chunks_per_step):
        chunk = data.plan.chunk(0, number)
        samples = [data.dataset[row] for row in chunk]
        counts = [sum(label != IGNORE for label in sample.labels) for sample in samples]
        losses = [
            reference_loss(lvlm, sample, texts[row], data.dataset.tokenizer)
            for row, sample in zip(chunk, samples, strict=True)
        ]
        means.append(sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts))
    train(run, run_dir)
    assert rows(run_dir)[0]["loss"] == pytest.approx(sum(means) / len(means), abs=1e-5)


def test_a_sample_is_the_image_and_its_caption_without_any_question(caption_run):
    run, run_dir = caption_run
    data = stage.open_data(run, run_dir, run.captions)
    for sample, row in zip((data.dataset[0], data.dataset[1]), data.dataset.rows, strict=False):
        caption = json.loads(row["conversations"])[1]["value"]
        image = data.dataset.image_token_id
        first, last = sample.input_ids.index(image), len(sample.input_ids) - sample.input_ids[::-1].index(image)
        assert last - first == run.model.num_image_tokens and sample.pixels is not None
        assert data.dataset.tokenizer.decode(sample.input_ids[last:]) == caption + "\n"
        assert sample.labels == [IGNORE] * last + sample.input_ids[last:]
    batch = collate([data.dataset[0], data.dataset[1]], pad_token_id=data.pad_token_id)
    assert batch.pixels is not None and len(batch.pixels) == 2


@pytest.mark.parametrize("caption_run", [("captions.template=model",)], indirect=True)
def test_a_caption_can_answer_its_question_in_the_models_template(caption_run):
    run, run_dir = caption_run
    data = stage.open_data(run, run_dir, run.captions)
    for sample, row in zip((data.dataset[0], data.dataset[1]), data.dataset.rows, strict=False):
        question, caption = (turn["value"] for turn in json.loads(row["conversations"]))
        text = data.dataset.tokenizer.decode(
            [token for token in sample.input_ids if token != data.dataset.image_token_id]
        )
        asked = question.replace("<image>", "").strip()
        assert text == f"<|begin_of_text|> USER: \n{asked} ASSISTANT: {caption}<|end_of_text|>"
        learned = [token for token in sample.labels if token != IGNORE]
        assert data.dataset.tokenizer.decode(learned) == f" {caption}<|end_of_text|>"


def test_fresh_projector_is_initialized_as_torch_does_and_depends_on_the_seed(make_run):
    torch.manual_seed(0)
    model = make_run().model
    first, again, other = (projector_weights.fresh_projector(model, seed=seed) for seed in (0, 0, 1))
    shapes = fit.projector_shapes(model)
    assert shapes is not None and {name: tuple(tensor.shape) for name, tensor in first.items()} == shapes
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]) and not torch.equal(tensor, other[name])
        inputs = shapes[name.replace("bias", "weight")][1]
        linear = torch.nn.Linear(inputs, 4000)  # the distribution that torch gives to a Linear with as many inputs
        reference = linear.weight if name.endswith("weight") else linear.bias
        assert tensor.abs().max() <= 1 / math.sqrt(inputs)
        assert tensor.std().item() == pytest.approx(reference.std().item(), rel=0.25)


def features_of(lvlm, pictures: torch.Tensor) -> torch.Tensor:
    """What the projector takes for each patch, (patches, width), in fp64."""
    seen = []
    layer = projector(lvlm).linear_1
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].flatten(0, 1).double()))
    lvlm.model.get_image_features(pixel_values=pictures)
    handle.remove()
    return torch.cat(seen)


@pytest.mark.parametrize("caption_run", [("captions.objective=word_alignment",)], indirect=True)
@torch.no_grad()
def test_word_alignment_takes_whitened_features(caption_run):
    """Their mean is 0, and in each direction the variance is 1 but for EPSILON of the mean variance."""
    run, run_dir = caption_run
    batches = list(stage.open_data(run, run_dir, run.captions).sample_pictures(8, batch_size=3))
    model = setup.load_with_fresh_projector(run, batches)
    features = features_of(model.lvlm, torch.cat(batches))
    module = model.module
    assert isinstance(module, WordAlignment) and module.whitening is not None
    white = (features - module.whitening.mean) @ module.whitening.matrix
    variances = torch.linalg.eigvalsh(features.T.cov(correction=0)).clamp(min=0)
    expected = variances / (variances + EPSILON * variances.mean())
    assert white.mean(0).abs().max() < 1e-6 and features.mean(0).abs().max() > 0.01
    torch.testing.assert_close(torch.linalg.eigvalsh(white.T.cov(correction=0)), expected, atol=1e-6, rtol=1e-6)


def saved_state(model) -> dict[str, torch.Tensor]:
    """The projector's tensors by their own names, as word alignment would save them now."""
    state = projector(model.lvlm).state_dict()
    folded = model.module.folded({PROJECTOR + name: tensor for name, tensor in state.items()})
    return {name.removeprefix(PROJECTOR): tensor for name, tensor in folded.items()}


@pytest.mark.parametrize("caption_run", [("captions.objective=word_alignment",)], indirect=True)
@torch.no_grad()
def test_the_projector_that_is_saved_takes_features_as_they_are(caption_run):
    run, run_dir = caption_run
    batches = list(stage.open_data(run, run_dir, run.captions).sample_pictures(8))
    model = setup.load_with_fresh_projector(run, batches)
    trained = model.module._projected(batches[0])
    state = saved_state(model)
    assert not torch.allclose(state["linear_1.weight"], projector(model.lvlm).linear_1.weight, atol=0.01)
    whole = loading.load(run.model, projector_state=state)
    as_it_is = torch.cat(list(whole.model.get_image_features(pixel_values=batches[0]).pooler_output))
    torch.testing.assert_close(as_it_is, trained, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def alignment_by_hand(lvlm, samples) -> float:
    """The loss of word alignment of a micro-batch, word by word and patch by patch, with a projector as it is saved."""
    said = [{token for token in sample.labels if token != IGNORE} for sample in samples]
    words = sorted(set.union(*said))
    vectors = lvlm.get_input_embeddings()(torch.tensor(words)).double()
    mean = vectors.mean(0)
    vectors = vectors - mean
    total = weight_sum = length_term = 0.0
    for sample, tokens in zip(samples, said, strict=True):
        (features,) = lvlm.model.get_image_features(pixel_values=sample.pixels[None]).pooler_output
        patches = features.double() - mean
        length_term += (patches.norm(dim=1).log() - vectors.norm(dim=1).mean().log()).square().mean().item()
        for token in tokens:
            likelihood = 0.0
            for patch in patches:
                cosines = torch.cosine_similarity(patch[None], vectors)
                likelihood += (SCALE * cosines).softmax(0)[words.index(token)].item() / len(patches)
            weight = math.log(len(said) / sum(token in others for others in said))
            total, weight_sum = total - weight * math.log(likelihood), weight_sum + weight
    return total / weight_sum + NORM_WEIGHT * length_term / len(samples)


ALIGNED = ("captions.objective=word_alignment", "train.micro_batch_size=4", "train.lr=1e-2")
FAST = ("recipe=fast", "runtime.num_workers=0")


@pytest.mark.parametrize("caption_run", [ALIGNED, (*FAST, *ALIGNED)], ids=["paper", "fast"], indirect=True)
def test_word_alignment_translates_captions_out_of_patches(caption_run):
    run, run_dir = caption_run
    data = stage.open_data(run, run_dir, run.captions)
    fresh = setup.load_with_fresh_projector(run, data.sample_pictures(8))
    lvlm = loading.load(run.model, projector_state=saved_state(fresh))
    losses = [
        alignment_by_hand(lvlm, [data.dataset[row] for row in data.plan.chunk(0, number)])
        for number in range(data.plan.chunks_per_step)
    ]
    train(run, run_dir)
    log = rows(run_dir)
    assert log[0]["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert 0 < log[0]["flops"] < 1e9, "the decoder does not run"


@pytest.mark.parametrize("caption_run", [(*ALIGNED, "train.max_steps=200")], indirect=True)
def test_word_alignment_learns_which_picture_a_caption_is_of(caption_run):
    run, run_dir = caption_run
    data = stage.open_data(run, run_dir, run.captions)
    model, _ = train(run, run_dir)
    samples = [data.dataset[number] for number in range(8)]
    right = collate(samples, pad_token_id=data.pad_token_id)
    assert right.pixels is not None
    wrong = dataclasses.replace(right, pixels=right.pixels.roll(1, 0))
    with torch.no_grad():
        losses = [(model.module(**batch.model_inputs()) / num_supervised(batch)).item() for batch in (right, wrong)]
    assert losses[0] < losses[1] - 0.5


@pytest.mark.parametrize("caption_run", [ALIGNED], indirect=True)
def test_word_alignment_learns_nothing_from_captions_that_are_all_the_same(caption_run):
    run, run_dir = caption_run
    data = stage.open_data(run, run_dir, run.captions)
    model = setup.load_with_fresh_projector(run)
    same = [data.dataset[0], data.dataset[0]]
    loss = model.module(**collate(same, pad_token_id=data.pad_token_id).model_inputs())
    loss.backward()
    assert loss == 0 and all((parameter.grad == 0).all() for parameter in model.trainable.values())


@pytest.mark.parametrize("caption_run", [ALIGNED, (*FAST, *ALIGNED)], ids=["paper", "fast"], indirect=True)
def test_word_alignment_learns_nothing_where_no_sample_has_a_picture(caption_run):
    run, run_dir = caption_run
    data = stage.open_data(run, run_dir, run.captions)
    model = setup.load_with_fresh_projector(run)
    batch = collate([dataclasses.replace(data.dataset[0], pixels=None)], pad_token_id=data.pad_token_id)
    batch.labels.fill_(IGNORE)
    loss = model.module(**batch.model_inputs())
    loss.backward()
    assert loss == 0 and all((parameter.grad == 0).all() for parameter in model.trainable.values())
