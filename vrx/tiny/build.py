"""Build the three foundations of the embedded LVLM: `python -m vrx.tiny.build` (about two hours on two CPU cores).

The stages are those of a real LVLM: (1) a tokenizer and a backbone pre-trained on the world's text alone; (2) a vision
tower; (3) the projector, trained while everything else is frozen. What `vrx` runs by default comes after: tuning.
Each stage is seeded, writes `weights/<stage>/` when it ends, and is skipped when that is there.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from torch import nn
from tqdm import tqdm
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from vrx import models
from vrx.batches import collate
from vrx.config import PACKAGE, ModelConfig
from vrx.images import Pixels
from vrx.prompts import expand_images, tokenize
from vrx.tiny import questions
from vrx.tiny.scenes import CELL, COLOURS, SIZE, THINGS, describe, draw, sample

WEIGHTS = Path(__file__).parent / "weights"
BOS, EOS, IMAGE = "<|begin_of_text|>", "<|end_of_text|>", "<|image|>"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
WORDS = r" ?[A-Za-z]+\d*:?| ?\d+\.\d+| ?\d+| ?[^\sA-Za-z\d]|\s"  # one pre-token a word, decimals whole
STYLES = {"full": questions.TEXT_FULL, "kinds": questions.TEXT_KINDS, "colours": questions.TEXT_COLOURS}
LOOK_UP = {
    "kinds": (questions.recognition, functools.partial(questions.description, style="kinds")),
    "colours": (questions.colour_at, functools.partial(questions.description, style="colours")),
}


def conversation(rng: random.Random, *, num_questions: int, easy: bool = False) -> tuple[str, list[tuple[str, str]]]:
    """A scene in words and (question, reply) pairs about it; easy ones look up what is at a place, or repeat."""
    scene = sample(rng)
    style = rng.choices(("kinds", "colours") if easy else tuple(STYLES), weights=(1, 1) if easy else (5, 3, 2))[0]
    makers = LOOK_UP[style] if easy else STYLES[style]
    pairs: list[tuple[str, str]] = []
    while len(pairs) < num_questions:
        question = rng.choice(makers)(scene, rng)
        if question is not None:
            pairs.append((questions.prompt(question), questions.reply(question)))
    return describe(scene, rng, style=style), pairs


def build_tokenizer(folder: Path) -> None:
    """Byte-level BPE in the layout of Llama-3's: every word of the world is one token, other text falls to bytes."""
    rng = random.Random(0)
    corpus = [SYSTEM + " USER: ASSISTANT: " + "\nAnswer the question using a single word or phrase."] * 50
    corpus += ["\nAnswer with the option's letter from the given choices directly."] * 50
    for _ in range(3000):
        scene, pairs = conversation(rng, num_questions=4)
        visual = [make(sample(rng), rng) for make in questions.VISUAL]
        pairs += [(questions.prompt(question), questions.reply(question)) for question in visual if question]
        corpus += [f"{scene}\n{text} ASSISTANT: {reply}" for text, reply in pairs]
        corpus += [f"USER: {text}" for text, _ in pairs]
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [BOS, EOS, IMAGE]
    trainer = trainers.BpeTrainer(vocab_size=1024, min_frequency=20, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=EOS)
    fast.save_pretrained(folder)


def text_batch(rng: random.Random, encode, *, batch_size: int, num_questions: int, length: int, easy: bool = False):
    """Ids and labels, both (batch, length); only replies and their end token are supervised."""
    ids = torch.full((batch_size, length), encode(EOS)[0])
    labels = torch.full((batch_size, length), -100)
    for row in range(batch_size):
        scene, pairs = conversation(rng, num_questions=num_questions, easy=easy)
        tokens, targets = list(encode(BOS) + encode(SYSTEM)), []
        for number, (text, reply) in enumerate(pairs):
            opening = f" USER: {scene}\n{text}" if number == 0 else f"USER: {text}"
            asked, replied = encode(opening + " ASSISTANT:"), encode(" " + reply) + encode(EOS)
            targets += [-100] * (len(tokens) + len(asked) - len(targets)) + list(replied)
            tokens += asked + replied
        end = min(length, len(tokens))
        ids[row, :end], labels[row, :end] = torch.tensor(tokens[:end]), torch.tensor(targets[:end])
    return ids, labels


def deepen(shallow: LlamaForCausalLM, num_layers: int, rng: random.Random) -> LlamaForCausalLM:
    """The same function with more decoder layers: each old layer goes to a random place in its stretch of the new
    stack, the others start as identities (zero output projections) and learn from there."""
    config = LlamaConfig(**{**shallow.config.to_dict(), "num_hidden_layers": num_layers})
    deep = LlamaForCausalLM(config)
    deep.model.embed_tokens.load_state_dict(shallow.model.embed_tokens.state_dict())
    deep.model.norm.load_state_dict(shallow.model.norm.state_dict())
    deep.lm_head.load_state_dict(shallow.lm_head.state_dict())
    for layer in deep.model.layers:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    stretch = num_layers // len(shallow.model.layers)
    for number, layer in enumerate(shallow.model.layers):
        deep.model.layers[number * stretch + rng.randrange(stretch)].load_state_dict(layer.state_dict())
    return deep


def train(parameters, step, *, steps: int, lr: float, name: str, warmup: int = 100, decay: float = 0.5) -> None:
    """AdamW with linear warm-up and a linear fall over the last part; `step(n) -> loss`."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    bar = tqdm(range(steps), desc=name)
    average = math.nan
    for number in bar:
        factor = min(1.0, (number + 1) / warmup, (steps - number) / (decay * steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        loss = step(number)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
        optimizer.step()
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}")


def build_backbone(folder: Path, tokenizer, *, steps: tuple[int, int]) -> None:
    """Pre-train a Llama of 32 layers x 64 on text alone: first 8 layers, then the whole depth."""
    torch.manual_seed(0)
    rng = random.Random(1)
    encode = functools.lru_cache(maxsize=100_000)(lambda text: tuple(tokenizer(text, add_special_tokens=False).input_ids))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        initializer_range=0.06,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        for output in (layer.self_attn.o_proj, layer.mlp.down_proj):
            nn.init.normal_(output.weight, std=0.06 / math.sqrt(2 * len(model.model.layers)))

    def step(number: int) -> torch.Tensor:
        ids, labels = text_batch(rng, encode, batch_size=batch_size, num_questions=12, length=208, easy=number < 600 and easy_start)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        kept = labels[:, 1:] != -100
        return nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][kept]), labels[:, 1:][kept])

    batch_size, easy_start = 24, True  # looking up first: without it the answers stay guesses for thousands of steps
    train(model.parameters(), step, steps=steps[0], lr=3e-3, name="backbone, 8 layers", decay=0.2)
    model.save_pretrained(folder.with_name("backbone-8"))
    model, batch_size, easy_start = deepen(model, 32, rng), 16, False
    train(model.parameters(), step, steps=steps[1], lr=1.5e-3, name="backbone, 32 layers", decay=0.6)
    model.save_pretrained(folder)


def build_tower(folder: Path, *, steps: int = 1200, batch_size: int = 64) -> None:
    """Train a SigLIP-type tower to tell, at every patch, colour and kind of what is in the cell."""
    torch.manual_seed(1)
    rng = random.Random(2)
    processor = SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE}, resample=3)
    config = SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=CELL,
        vision_use_head=False,
        dtype="float32",
    )
    tower = SiglipVisionModel(config)
    colours, kinds = nn.Linear(64, len(COLOURS) + 1), nn.Linear(64, len(THINGS) + 1)
    colour_names, kind_names = tuple(COLOURS), THINGS

    def step(number: int) -> torch.Tensor:
        scenes = [sample(rng) for _ in range(batch_size)]
        images = [draw(scene, seed=rng.getrandbits(32)) for scene in scenes]
        states = tower(pixel_values=processor(images, return_tensors="pt")["pixel_values"]).last_hidden_state
        colour = torch.tensor([[colour_names.index(t.colour) + 1 if t else 0 for t in scene] for scene in scenes])
        kind = torch.tensor([[kind_names.index(t.kind) + 1 if t else 0 for t in scene] for scene in scenes])
        loss = nn.functional.cross_entropy(colours(states).flatten(0, 1), colour.flatten())
        return loss + nn.functional.cross_entropy(kinds(states).flatten(0, 1), kind.flatten())

    parameters = [*tower.parameters(), *colours.parameters(), *kinds.parameters()]
    train(parameters, step, steps=steps, lr=1e-3, name="vision tower")
    processor.save_pretrained(folder)
    tower.save_pretrained(folder)


def build_projector(folder: Path, config: ModelConfig, *, steps: int = 600, batch_size: int = 32) -> None:
    """Train the projector alone, backbone and tower frozen, on single questions about what is where."""
    torch.manual_seed(2)
    rng = random.Random(3)
    hidden = LlamaConfig.from_pretrained(WEIGHTS / "backbone").hidden_size
    fresh = {"linear_1": nn.Linear(64, hidden), "linear_2": nn.Linear(hidden, hidden)}
    folder.mkdir()
    save_file(
        {f"{name}.{key}": tensor for name, layer in fresh.items() for key, tensor in layer.state_dict().items()},
        folder / "projector.safetensors",
    )
    lvlm = models.load(config)
    tokenizer, pixels = models.tokenizer_of(config), Pixels(config)
    image_id = models.image_token_id(config, tokenizer)
    projector = models.projector(lvlm).requires_grad_(True)

    def step(number: int) -> torch.Tensor:
        samples = []
        for _ in range(batch_size):
            scene = sample(rng)
            turns = []
            for _ in range(4):
                question = rng.choice(questions.TYPED)(scene, rng) or questions.recognition(scene, rng)
                turns += [{"from": "human", "value": question.text}, {"from": "gpt", "value": question.answer}]
            turns[0]["value"] = "<image>\n" + turns[0]["value"]
            encoded = tokenize(turns, tokenizer, config.template, has_image=True)
            ids, labels = expand_images(
                encoded.input_ids, encoded.labels, image_token_id=image_id, num_image_tokens=config.num_image_tokens
            )
            image = pixels(draw(scene, seed=rng.getrandbits(32)))
            samples.append({"input_ids": ids, "labels": labels, "pixels": image, "bad": []})
        batch = collate(samples, pad_token_id=tokenizer.pad_token_id)
        inputs = {key: batch[key] for key in ("input_ids", "labels", "attention_mask")}
        return lvlm(pixel_values=batch["pixels"], **inputs).loss

    train(projector.parameters(), step, steps=steps, lr=2e-3, name="projector")
    save_file(projector.state_dict(), folder / "projector.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone-steps", type=int, nargs=2, default=(3000, 1500), metavar=("8_LAYERS", "32_LAYERS"))
    arguments = parser.parse_args()
    if not (WEIGHTS / "tokenizer.json").is_file():
        build_tokenizer(WEIGHTS)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(WEIGHTS)
    if not (WEIGHTS / "backbone").is_dir():
        build_backbone(WEIGHTS / "backbone", tokenizer, steps=arguments.backbone_steps)
    if not (WEIGHTS / "vision_tower").is_dir():
        build_tower(WEIGHTS / "vision_tower")
    if not (WEIGHTS / "projector").is_dir():
        composed = OmegaConf.load(PACKAGE.parent / "conf" / "model" / "tiny.yaml")
        build_projector(WEIGHTS / "projector", ModelConfig(**composed.model))


if __name__ == "__main__":
    main()
