"""A second implementation of the official training (LLaVA c121f043, transformers 4.37.2), to hold the loop to.

`train_trace.npz` holds eight optimizer steps of the official trainer on sixteen conversations; the repository holds
the texts of half of them, the others have substitutes.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from support.official import FAMILIES, GOLDEN, conversations, encoded, model_config, tuning
from torch import nn
from transformers import AutoModelForCausalLM, CLIPVisionModel, get_cosine_schedule_with_warmup

from vrx.config.schema import EngineConfig, TrainConfig
from vrx.data import sampler
from vrx.data.images.processing import Pixels, open_rgb
from vrx.data.instructions.encoding import IGNORE, tokenize
from vrx.data.tokenizers import IMAGE_TOKEN
from vrx.models import loading, lora
from vrx.training import loop
from vrx.training.engine import TorchEngine, create

FAMILY = "llava_official"
TRACE = json.loads((GOLDEN / FAMILY / "train.json").read_text())
HYPER = TRACE["hyper"]
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


SUBSTITUTES = {  # for the texts that the repository does not hold, each as odd as the original
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


@dataclass
class Training:
    """Losses of the micro-batches, learning rates of each step by group, trainable tensors before and after."""

    losses: list[float]
    rates: list[list[float]]
    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]


class RecordingEngine(TorchEngine):
    """The engine, recording the loss and the learning rates of every micro-batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.losses: list[float] = []
        self.rates: list[list[float]] = []

    def backward(self, loss: torch.Tensor) -> None:
        self.losses.append(loss.item())
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])
        super().backward(loss)


def train_by_our_loop(texts: list[dict], folder: Path, plan: TrainConfig = PLAN) -> Training:
    """Train on the conversations by the loop of vrx."""
    module = tuning(FAMILY)
    trainable = lora.trainable_parameters(module)
    before = {name: tensor.detach().clone() for name, tensor in trainable.items()}
    groups = lora.optimizer_groups(trainable, plan)
    engine = create(module, groups, plan, EngineConfig(name="torch"))
    assert isinstance(engine, TorchEngine)
    recording = RecordingEngine(
        engine.module, engine.optimizer, accumulation=engine.accumulation, max_norm=engine.max_norm
    )
    order = sampler.BatchPlan(list(range(len(texts))), plan, seed=0)
    micro = [encoded(FAMILY, *chunk) for chunk in chunks(texts, SIZE)]
    loop.train(
        recording,
        order,
        iter(micro * plan.epochs),
        plan,
        folder,
        start=0,
        checkpoint_every=1000,
        executions=[],
        flops=lambda workload: 0.0,
    )
    rates = recording.rates[:: order.chunks_per_step]
    return Training(recording.losses, rates, before, recording.weights())


class Reference(nn.Module):
    """The LVLM in tuning and its loss, written with plain transformers and torch.

    Image features are put between the text's embeddings by hand, and LoRA is added to the outputs of Linears by hooks.
    """

    def __init__(self) -> None:
        super().__init__()
        folder, names = GOLDEN / FAMILY, FAMILIES[FAMILY]
        self.backbone = AutoModelForCausalLM.from_pretrained(folder / names["backbone"]).requires_grad_(False)
        self.tower = CLIPVisionModel.from_pretrained(folder / names["vision_tower"]).requires_grad_(False)
        projector = torch.load(folder / names["adapter"] / "non_lora_trainables.bin", weights_only=True)
        self.projector = {name: nn.Parameter(value) for name, value in projector.items()}
        stored = load_file(folder / names["adapter"] / "adapter_model.safetensors")
        self.lora = {name.replace(".weight", ".default.weight"): nn.Parameter(value) for name, value in stored.items()}
        scale = HYPER["lora_alpha"] / HYPER["lora_r"]
        for name, a in self.lora.items():
            if ".lora_A." in name:
                path = name.removeprefix("base_model.model.").partition(".lora_A")[0]
                b = self.lora[name.replace("_A.", "_B.")]
                module = self.backbone.get_submodule(path)
                module.register_forward_hook(lambda _, inputs, out, a=a, b=b: out + scale * (inputs[0] @ a.T @ b.T))
        self.tokenizer = loading.load_model_tokenizer(model_config(FAMILY, None))
        self.pixels = Pixels(model_config(FAMILY, None))

    def _features(self, image: str) -> torch.Tensor:
        pixels = self.pixels(open_rgb(GOLDEN / "images" / image))[None]
        features = self.tower(pixels, output_hidden_states=True).hidden_states[-2][0, 1:]
        weights = {name.rpartition("mm_projector.")[2]: value for name, value in self.projector.items()}
        features = nn.functional.gelu(nn.functional.linear(features, weights["0.weight"], weights["0.bias"]))
        return nn.functional.linear(features, weights["2.weight"], weights["2.bias"])

    def _sample(self, conversation: dict, max_length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (length, hidden) and labels (length,) of one conversation, cut after its images are in place."""
        image = conversation.get("image")
        turns = conversation["conversations"]
        text = tokenize(turns, self.tokenizer, "vicuna_v1", has_image=image is not None, max_length=max_length)
        embed, parts, labels = self.backbone.get_input_embeddings(), [], []
        for is_image, pairs in itertools.groupby(
            zip(text.input_ids, text.labels, strict=True), key=lambda pair: pair[0] == IMAGE_TOKEN
        ):
            ids, text_labels = zip(*pairs, strict=True)
            parts.append(self._features(image) if is_image else embed(torch.tensor(ids)))
            labels += [IGNORE] * len(parts[-1]) if is_image else text_labels
        return torch.cat(parts)[:max_length], torch.tensor(labels)[:max_length]

    def forward(self, texts: list[dict], max_length: int = 2048) -> torch.Tensor:
        """The mean over the supervised tokens of a micro-batch."""
        embeddings, labels = zip(*[self._sample(text, max_length) for text in texts], strict=True)
        mask = [torch.ones(len(row)) for row in labels]
        logits = self.backbone(
            inputs_embeds=nn.utils.rnn.pad_sequence(embeddings, batch_first=True),
            attention_mask=nn.utils.rnn.pad_sequence(mask, batch_first=True),
        ).logits
        padded = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE)
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), padded[:, 1:].flatten())


def train_by_the_reference(texts: list[dict], decay: float) -> Training:
    """Train as the official trainer does: four groups, AdamW, a scheduler that steps after the optimizer."""
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
    assert [len(group["params"]) for group in groups] == TRACE["optimizer_group_sizes"]
    optimizer = torch.optim.AdamW(groups, lr=PLAN.lr, betas=(0.9, 0.999), eps=1e-8)
    steps = TRACE["steps"]
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
    return Training(losses, rates, before, {name: value.detach() for name, value in named.items()})


@cache
def texts() -> list[dict]:
    """The conversations of the trace in their order, with substitutes for those that the repository does not hold."""
    return [{**SUBSTITUTES, **conversations(FAMILY)}[case_id] for case_id in TRACE["order"]]
