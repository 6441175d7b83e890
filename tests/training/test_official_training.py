"""The training loop against the official trainer's (LLaVA c121f043, transformers 4.37.2), step by step.

`train_trace.npz` holds eight optimizer steps of it on sixteen conversations, of which the repository shows half: the
whole trace is replayed where all of them are there (VRX_OFFICIAL_MODELS), elsewhere all that it tells without them. The
loop itself is held to a trainer written down a second time, on plain transformers and torch, with eight texts made up.
Tolerances: 1e-4 on the loss of a micro-batch, learning rates exact, 1e-3 relative on how far a tensor moves.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.official import (
    FAMILIES,
    GOLDEN,
    arrays,
    conversations,
    encoded,
    given_batch,
    loss_of,
    model_config,
    our_name,
    tuning,
)
from torch import nn
from transformers import AutoModelForCausalLM, CLIPVisionModel, get_cosine_schedule_with_warmup

from vrx.config.schema import EngineConfig, TrainConfig
from vrx.data import sampler
from vrx.data.batch import MicroBatch
from vrx.data.encoding import IGNORE, tokenize
from vrx.data.image_processing import Pixels, open_rgb
from vrx.data.tokenizers import IMAGE_TOKEN
from vrx.models import loading, lora
from vrx.training import loop
from vrx.training.engine import TorchEngine, create
from vrx.training.loss import num_supervised

FAMILY = "llava_official"
TOLD = json.loads((GOLDEN / FAMILY / "train.json").read_text())
HYPER = TOLD["hyper"]
SIZE = HYPER["per_device_train_batch_size"]
PLAN = TrainConfig(
    epochs=HYPER["num_train_epochs"],
    global_batch_size=SIZE * HYPER["gradient_accumulation_steps"],
    micro_batch_size=SIZE,
    lr=HYPER["learning_rate"],
    projector_lr=HYPER["mm_projector_lr"],
    weight_decay=HYPER["weight_decay"],
    warmup_ratio=HYPER["warmup_ratio"],
    max_grad_norm=HYPER["max_grad_norm"],
    dtype="float32",
)


def talk(case_id: str, *texts: str, image: str | None = None) -> dict:
    turns = [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]
    return {"id": case_id, "conversations": turns, **({"image": image} if image else {})}


MADE_UP = {  # in the places of the texts that are not there, each as odd as the one whose place it takes
    "e19_digit_start": talk("e19_digit_start", "<image>\nHow many?", "3 dogs and 12 cats.", image="exact_56.png"),
    "c6_unicode": talk("c6_unicode", "<image>\n色は何ですか？ 🐶", "赤、naïve café.", image="odd_57x56.png"),
    "e18_text_only_eight_rounds": talk("e18_text_only_eight_rounds", *[f"Number {n}?" for n in range(16)]),
    "e10_text_only_with_tag": talk("e10_text_only_with_tag", "What is <image> in HTML?", "No tag of it."),
    "e3_answer_trailing_space": talk("e3_answer_trailing_space", "<image>\nWhat?", "A dog. ", image="exact_56.png"),
    "e16_tabs_crlf": talk("e16_tabs_crlf", "<image>\nIs\tit\r\nred?", "Yes,\r\n\tit is.", image="rgba.png"),
    "e8_starts_with_gpt": {
        **talk("e8_starts_with_gpt", image="gray_L.png"),
        "conversations": [
            {"from": "gpt", "value": "Hello."},
            {"from": "human", "value": "<image>\nWho?"},
            {"from": "gpt", "value": "Nobody."},
        ],
    },
    "e2_answer_leading_space": talk("e2_answer_leading_space", "<image>\nWhat?", "  A dog.", image="landscape.png"),
}


def chunks(values: list, size: int) -> list[list]:
    return [values[first : first + size] for first in range(0, len(values), size)]


class Watched(TorchEngine):
    """The engine, with a note of every micro-batch's loss and of every step's learning rates."""

    def backward(self, loss: torch.Tensor) -> None:
        self.losses = [*getattr(self, "losses", []), loss.item()]
        self.rates = [*getattr(self, "rates", []), [group["lr"] for group in self.optimizer.param_groups]]
        super().backward(loss)


def ours(texts: list[dict], folder: Path, plan: TrainConfig = PLAN):
    """By our loop: losses of the micro-batches, learning rates of the steps, weights before and after."""
    module = tuning(FAMILY)
    trainable = lora.trainable_parameters(module)
    before = {name: tensor.detach().clone() for name, tensor in trainable.items()}
    groups = lora.optimizer_groups(trainable, plan)
    engine = create(module, groups, plan, EngineConfig(name="torch"))
    assert isinstance(engine, TorchEngine)
    watched = Watched(engine.module, engine.optimizer, accumulation=engine.accumulation, max_norm=engine.max_norm)
    order = sampler.BatchPlan(list(range(len(texts))), plan, seed=0)
    micro = [encoded(FAMILY, *chunk) for chunk in chunks(texts, SIZE)]
    loop.train(
        watched,
        order,
        iter(micro * plan.epochs),
        plan,
        folder,
        start=0,
        checkpoint_every=1000,
        flops=lambda workload: 0.0,
    )
    after = watched.weights()
    return watched.losses, watched.rates[:: order.chunks_per_step], before, after


class Reference(nn.Module):
    """The LVLM that is tuned and its loss, of their parts: the text's embeddings with an image's features set in, and
    LoRA added to what a Linear gives."""

    def __init__(self) -> None:
        super().__init__()
        folder, told = GOLDEN / FAMILY, FAMILIES[FAMILY]
        self.backbone = AutoModelForCausalLM.from_pretrained(folder / told["backbone"]).requires_grad_(False)
        self.tower = CLIPVisionModel.from_pretrained(folder / told["vision_tower"]).requires_grad_(False)
        beside = torch.load(folder / told["adapter"] / "non_lora_trainables.bin", weights_only=True)
        self.projector = {name: nn.Parameter(value) for name, value in beside.items()}
        stored = load_file(folder / told["adapter"] / "adapter_model.safetensors")
        self.lora = {name.replace(".weight", ".default.weight"): nn.Parameter(value) for name, value in stored.items()}
        scale = HYPER["lora_alpha"] / HYPER["lora_r"]
        for name, a in self.lora.items():
            if ".lora_A." in name:
                path = name.removeprefix("base_model.model.").partition(".lora_A")[0]
                b = self.lora[name.replace("_A.", "_B.")]
                module = self.backbone.get_submodule(path)
                module.register_forward_hook(lambda _, given, out, a=a, b=b: out + scale * (given[0] @ a.T @ b.T))
        self.tokenizer = loading.tokenizer_of(model_config(FAMILY, None))
        self.pixels = Pixels(model_config(FAMILY, None))

    def _features(self, image: str) -> torch.Tensor:
        pixels = self.pixels(open_rgb(GOLDEN / "images" / image))[None]
        found = self.tower(pixels, output_hidden_states=True).hidden_states[-2][0, 1:]
        weights = {name.rpartition("mm_projector.")[2]: value for name, value in self.projector.items()}
        found = nn.functional.gelu(nn.functional.linear(found, weights["0.weight"], weights["0.bias"]))
        return nn.functional.linear(found, weights["2.weight"], weights["2.bias"])

    def _sample(self, told: dict, max_length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (length, hidden) and labels (length,) of one conversation, cut after its images are in place."""
        image = told.get("image")
        text = tokenize(
            told["conversations"], self.tokenizer, "vicuna_v1", has_image=image is not None, max_length=max_length
        )
        embed, parts, labels = self.backbone.get_input_embeddings(), [], []
        for is_image, pairs in itertools.groupby(
            zip(text.input_ids, text.labels, strict=True), key=lambda pair: pair[0] == IMAGE_TOKEN
        ):
            ids, of_text = zip(*pairs, strict=True)
            parts.append(self._features(image) if is_image else embed(torch.tensor(ids)))
            labels += [IGNORE] * len(parts[-1]) if is_image else of_text
        return torch.cat(parts)[:max_length], torch.tensor(labels)[:max_length]

    def forward(self, texts: list[dict], max_length: int = 2048) -> torch.Tensor:
        """The mean over the supervised tokens of a micro-batch."""
        embeddings, labels = zip(*[self._sample(told, max_length) for told in texts], strict=True)
        mask = [torch.ones(len(one)) for one in labels]
        logits = self.backbone(
            inputs_embeds=nn.utils.rnn.pad_sequence(embeddings, batch_first=True),
            attention_mask=nn.utils.rnn.pad_sequence(mask, batch_first=True),
        ).logits
        padded = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE)
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), padded[:, 1:].flatten())


def theirs(texts: list[dict], decay: float):
    """The same by a trainer as the official one is: four groups, AdamW, a scheduler that steps after the optimizer."""
    model = Reference()
    named = model.lora | model.projector
    before = {name: value.detach().clone() for name, value in named.items()}
    weights = [value for name, value in model.projector.items() if "bias" not in name]
    biases = [value for name, value in model.projector.items() if "bias" in name]
    groups = [
        {"params": list(model.lora.values()), "weight_decay": decay},
        {"params": [], "weight_decay": 0.0},
        {"params": weights, "weight_decay": decay, "lr": PLAN.projector_lr},
        {"params": biases, "weight_decay": 0.0, "lr": PLAN.projector_lr},
    ]
    assert [len(group["params"]) for group in groups] == TOLD["optimizer_group_sizes"]
    optimizer = torch.optim.AdamW(groups, lr=PLAN.lr, betas=(0.9, 0.999), eps=1e-8)
    steps = TOLD["steps"]
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(steps * PLAN.warmup_ratio), steps)
    losses, rates = [], []
    micro = chunks(texts, SIZE) * PLAN.epochs
    for accumulated in chunks(micro, HYPER["gradient_accumulation_steps"]):
        rates.append([group["lr"] for group in optimizer.param_groups])
        for chunk in accumulated:
            loss = model(chunk)
            (loss / len(accumulated)).backward()
            losses.append(loss.item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return losses, rates, before, {name: value.detach() for name, value in named.items()}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: (after[name] - before[name]).norm().item() for name in before}


@cache
def texts() -> list[dict]:
    """The conversations of the trace in their order, made up where they are not there."""
    return [{**MADE_UP, **conversations(FAMILY)}[case_id] for case_id in TOLD["order"]]


@pytest.mark.parametrize("decay", [HYPER["weight_decay"], 10.0])
def test_the_loop_trains_as_the_official_trainer_written_down_again(decay, tmp_path):
    losses, rates, before, after = ours(texts(), tmp_path, dataclasses.replace(PLAN, weight_decay=decay))
    expected_losses, expected_rates, expected_before, expected_after = theirs(texts(), decay)
    assert len(losses) == len(expected_losses) == 2 * TOLD["steps"]
    assert losses == pytest.approx(expected_losses, abs=1e-4)
    assert expected_rates == arrays(FAMILY, "train_trace.npz")["lr_per_step_per_group"].tolist()
    assert rates == [[adapter, *projector] for adapter, _, *projector in expected_rates]
    for name, first in expected_before.items():
        assert torch.equal(before[our_name(name)], first)
        change = expected_after[name] - first
        error = after[our_name(name)] - before[our_name(name)] - change
        assert error.norm() < 1e-3 * change.norm() and change.norm() > 0, name
    logged = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    means = [sum(pair) / 2 for pair in chunks(losses, 2)]
    assert [row["loss"] for row in logged] == pytest.approx(means, abs=1e-6)


def test_the_official_training_is_replayed_where_all_its_texts_are_there(tmp_path):
    trace = arrays(FAMILY, "train_trace.npz")
    absent = [case_id for case_id in TOLD["order"] if case_id not in conversations(FAMILY)]
    if absent:
        pytest.skip(f"{', '.join(absent)}: not among the texts, see VRX_OFFICIAL_MODELS")
    losses, rates, before, after = ours(texts(), tmp_path)
    assert losses == pytest.approx(trace["micro_loss"].tolist(), abs=1e-4)
    assert rates == [[adapter, *projector] for adapter, _, *projector in trace["lr_per_step_per_group"].tolist()]
    logged = [json.loads(line)["loss"] for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert logged == pytest.approx(trace["logged_loss"].tolist(), abs=2e-4)  # four places
    distances = moved(before, after)
    for key, distance in trace.items():
        kind, _, name = key.partition("/")
        if kind == "delta_norm":
            assert distances[our_name(name)] == pytest.approx(distance.item(), rel=1e-3), name
        if kind == "final_head":
            head = after[our_name(name)].flatten()[: len(distance)]
            assert (head - distance).abs().max() < 1e-3 * distances[our_name(name)], name


@pytest.mark.parametrize("case_id", ["c4_tag_in_second_turn", "c2_multi_tag_end"])
def test_a_sample_whose_image_is_cut_costs_what_it_costs_officially(case_id):
    """Cut before its image, within it and behind it, together with a sample that is whole; gradients too."""
    pair = [conversations(FAMILY)[case_id], MADE_UP["e3_answer_trailing_space"]]
    reference, module = Reference(), tuning(FAMILY)
    trainable = lora.trainable_parameters(module)
    ends = [end_of_image(told) for told in pair]
    end = ends[0]
    for length in (end - 17, end - 16, end - 15, end - 1, end, end + 1, end + 9):
        batch = encoded(FAMILY, *pair, max_length=length)
        assert len(batch.cut_images) == sum(length < stop for stop in ends)
        if num_supervised(batch) == 0:
            assert not reference(pair, length).isfinite()  # the mean of nothing
            continue
        expected, loss = reference(pair, length), loss_of(module, batch)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
        expected.backward()
        loss.backward()
        for name, parameter in (reference.lora | reference.projector).items():
            assert (trainable[our_name(name)].grad - parameter.grad).abs().max() < 1e-6, name
            trainable[our_name(name)].grad = parameter.grad = None


@pytest.mark.parametrize("family", [family for family in FAMILIES if "adapter" in FAMILIES[family]])
def test_a_text_that_spells_the_image_token_breaks_no_batch(family):
    module, token = tuning(family), model_config(family, None).image_token
    for text in ("\0", token):
        with_image = talk("a", "<image>\nWhat?", f"A {text} dog.", image="landscape.png")
        assert loss_of(module, encoded(family, talk("b", f"{text} Why?", "So."), with_image)).isfinite()


def end_of_image(told: dict) -> int:
    """Where the image of a conversation ends."""
    config = model_config(FAMILY, None)
    token = loading.image_token_id(config, loading.tokenizer_of(config))
    return encoded(FAMILY, told).input_ids[0].tolist().index(token) + config.num_image_tokens


def test_what_the_texts_that_are_there_allow_of_the_official_training():
    """The first step has learning rate 0, so the first two see the weights that training begins with. Of their four
    micro-batches one consists of texts that are here, one of ids that stand in the batch of four; of a third, the text
    that is here has all but eleven of the tokens; the last has none."""
    trace, known, module = arrays(FAMILY, "train_trace.npz"), conversations(FAMILY), tuning(FAMILY)
    order, count, losses = TOLD["order"], trace["micro_n_supervised"].tolist(), trace["micro_loss"].tolist()
    assert order[:6] == [
        "c2_multi_tag_end",
        "c3_text_only",
        "e19_digit_start",
        "c5_long",
        "c1_single",
        "c6_unicode",
    ]
    four = given_batch(FAMILY)
    third = MicroBatch(
        input_ids=four.input_ids[[0, 3]],
        labels=four.labels[[0, 3]],
        attention_mask=four.attention_mask[[0, 3]],
        pixels=four.pixels[[0, 2]],  # of c1 and c6
    )
    for number, batch in {0: encoded(FAMILY, known["c2_multi_tag_end"], known["c3_text_only"]), 2: third}.items():
        assert num_supervised(batch) == count[number]
        assert loss_of(module, batch).item() == pytest.approx(losses[number], abs=1e-4)
    long = encoded(FAMILY, known["c5_long"])
    rest = count[1] - num_supervised(long)
    told = losses[1] * count[1] - loss_of(module, long).item() * num_supervised(long)
    assert rest == 11 and 6 < told / rest < 9  # nats a token, as everywhere in this model that knows nothing
    whole = [number for number in range(8) if set(chunks(order, SIZE)[number]) <= known.keys()]
    assert len(whole) >= 3
    for number in whole:
        ids = chunks(order, SIZE)[number]
        placed = ids.count("e13_tag_in_answer")  # counted officially before the image takes its tag's place
        assert num_supervised(encoded(FAMILY, *[known[case_id] for case_id in ids])) + placed == count[number]
