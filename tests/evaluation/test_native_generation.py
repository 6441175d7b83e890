"""Answers of one checkpoint of transformers' own class: alone, in batches, with and without a cache."""

from __future__ import annotations

import pytest
import torch
from support.families import picture, slow_families

from vrx.evaluation.families import Sample
from vrx.evaluation.loglikelihood import loglikelihoods
from vrx.evaluation.native_generation import NativeGenerator
from vrx.metrics.answer import Answer
from vrx.models import probe
from vrx.training.native_loss import forget_positions

FAMILIES = slow_families(fast=("qwen2_5_vl",))
NEW_TOKENS = 6


@pytest.fixture
def samples(tmp_path) -> list[Sample]:
    prompts = ("what is in the picture?", "is it a cat?", "describe the image in detail please .")
    found = []
    for number, prompt in enumerate(prompts):
        picture(number).save(tmp_path / f"{number}.png")
        answer = Answer(str(number), "", ("a red square",), choices=("red", "blue"))
        found.append(Sample(prompt, tmp_path / f"{number}.png", answer))
    return found


def generator_of(family) -> NativeGenerator:
    return NativeGenerator(family.model(), family.config)


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_do_not_depend_on_batch_or_cache(tiny_family, name, samples):
    generator = generator_of(tiny_family(name))
    encoded = [generator.encode(sample) for sample in samples]
    together = generator.answer(encoded, NEW_TOKENS)
    alone = [generator.answer([one], NEW_TOKENS)[0] for one in encoded]
    assert together == alone
    assert alone == [without_cache(generator, one) for one in encoded]


@torch.inference_mode()
def without_cache(generator, encoded) -> str:
    """Greedy decoding by whole forward passes."""
    family_batch = encoded.row
    ids, tensors = torch.tensor([family_batch.input_ids]), dict(family_batch.tensors)
    tensors = {key: value[None] if len(value) == ids.shape[1] else value for key, value in tensors.items()}
    start = ids.shape[1]
    ends = set(generator.lvlm.generation_config.eos_token_id)
    for _ in range(NEW_TOKENS):
        forget_positions(generator.lvlm)
        logits = generator.lvlm(input_ids=ids, attention_mask=torch.ones_like(ids), **tensors, use_cache=False).logits
        token = logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, token], 1)
        for key in ("mm_token_type_ids", "token_type_ids", "cross_attention_mask"):
            if key in tensors:
                last = tensors[key][:, -1:]
                is_prefix_lm = generator.config.architecture == "paligemma"  # whose answer is no part of the prefix
                new = last if key == "cross_attention_mask" else torch.full_like(last, int(is_prefix_lm))
                tensors[key] = torch.cat([tensors[key], new], 1)
        if token.item() in ends:
            break
    return generator.tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", FAMILIES)
def test_letters_and_references_have_likelihoods(tiny_family, name, samples):
    generator = generator_of(tiny_family(name))
    encoded = [generator.encode(sample) for sample in samples]
    for _, log_probs in generator.answer_with_letter_log_probs(encoded, 1):
        assert len(log_probs) == 2
        assert all(value < 0 for value in log_probs)
    together = loglikelihoods(generator, encoded)
    alone = [loglikelihoods(generator, [one])[0] for one in encoded]
    for one, other in zip(together, alone, strict=True):
        assert one.num_tokens == other.num_tokens > 1
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_are_scored_and_those_without_attention_say_so(tiny_family, name):
    family = tiny_family(name)
    model = family.model()
    batch = family.collate([family.prompt(number) for number in range(3)])
    names = probe.formulas(model)
    assert (set(names) & set(probe.IMAGE_SCORES) == set()) == (name == "mllama")  # has no tokens of pictures
    scores = probe.activation_scores(model, batch, names=names)
    kinds = family.row.kinds(model.config)
    absent = [kind == "linear_attention" for kind in kinds]
    for formula, values in scores.items():
        assert values.shape == (3, len(kinds))
        expected = absent if formula in probe.ATTENTION_SCORES else [False] * len(kinds)
        assert values.isnan().all(0).tolist() == values.isnan().any(0).tolist() == expected
    single = probe.activation_scores(model, family.collate([family.prompt(1)]), names=names)
    for formula, values in scores.items():
        assert torch.allclose(values[1], single[formula][0], atol=1e-4, equal_nan=True), formula


def test_a_picture_stands_where_its_tag_does(tiny_family, samples):
    family = tiny_family("qwen2_5_vl")
    generator = generator_of(family)
    tagged = Sample("<image>\nis it a cat?", samples[1].image, samples[1].answer)
    assert generator.encode(tagged).prompt_ids == generator.encode(samples[1]).prompt_ids
