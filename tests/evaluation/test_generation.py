"""Answers do not depend on how questions are batched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.composing import composed
from support.generating import answer_in_batches, generator_of, samples_of

from vrx.config.errors import BadImage, UserError
from vrx.config.schema import RunConfig
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import Generator, prompt_batches, text_answer_function
from vrx.evaluation.image_loading import load_images
from vrx.evaluation.loglikelihood import loglikelihoods
from vrx.evaluation.run_benchmarks import answer_function
from vrx.metrics.answer import Answer

Make = Callable[..., RunConfig]
TINY = ["ocrvqa", "docvqa", "refcocog", "tdiuc", "mmbench", "gqa", "scienceqa", "textvqa", "mmlu"]


@pytest.mark.parametrize("name", TINY)
def test_answers_in_batches_of_1_8_and_64_are_the_same(make_run: Make, tiny: Generator, name: str):
    run = make_run()
    config, samples = run.benchmark[f"tiny_{name}"], samples_of(run, f"tiny_{name}")
    alone, eight, all_64 = (
        answer_in_batches(tiny, samples, answer_function(tiny, config), size) for size in (1, 8, 64)
    )
    assert alone == eight == all_64


def test_letter_log_probs_agree_with_the_log_likelihood_of_each_letter_as_an_answer(make_run: Make, tiny: Generator):
    run = make_run("benchmark=mmlu_letters_tiny")
    samples = samples_of(run, "tiny_mmlu_letters")
    answers = answer_in_batches(tiny, samples, answer_function(tiny, run.benchmark["tiny_mmlu_letters"]), 4)
    texts = answer_in_batches(tiny, samples, text_answer_function(tiny, 8), 4)
    assert [answer.text for answer in answers] == [answer.text for answer in texts]
    for sample, answer in zip(samples, answers, strict=True):
        letters = [
            dataclasses.replace(sample, answer=Answer("x", "", (letter,)))
            for letter in "ABCD"[: len(sample.answer.choices)]
        ]
        scored = loglikelihoods(tiny, [tiny.encode(letter) for letter in letters])
        with_end = [row.log_likelihood or 0.0 for row in scored]
        assert len(answer.choice_log_probs) == len(letters)
        pairs = zip(with_end, answer.choice_log_probs, strict=True)
        assert all(with_end_token <= letter_alone + 1e-4 for with_end_token, letter_alone in pairs)
        assert with_end.index(max(with_end)) == answer.choice_log_probs.index(max(answer.choice_log_probs))


def test_answers_of_a_model_that_computes_no_numbers_are_refused(make_run: Make):
    run = make_run()
    generator, samples = generator_of(run), samples_of(run, "tiny_mmlu", limit=2)
    generator.lvlm.lm_head.weight.data[-1, -1] = torch.nan  # loading looks at the beginning of weights only
    for answer in (
        text_answer_function(generator, 2),
        text_answer_function(generator, 2, letters=True),
        lambda batch: loglikelihoods(generator, batch),
    ):
        with pytest.raises(UserError, match=f"sample {samples[0].answer.id}: .* computes NaN .*dtype=float32"):
            answer_in_batches(generator, samples, answer, 2)


@pytest.fixture(scope="module")
def many_samples(world: Path) -> list[Sample]:
    """More questions than the small world has, so that batches of 64 are full."""
    from vrx.tiny.data import build

    run = composed([f"runtime.output_root={world}/many", "world.num_images=4", "world.num_questions=64"])
    assert run.world is not None
    build(run.world)
    return samples_of(run, "tiny_refcocog")


@pytest.mark.slow
def test_a_batch_of_64_takes_at_most_an_eighth_of_the_forward_passes(tiny: Generator, many_samples: list[Sample]):
    num_forwards, answers = {}, {}
    for size in (64, 1):
        calls: list[int] = []
        handle = tiny.lvlm.model.language_model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        answers[size] = answer_in_batches(tiny, many_samples, text_answer_function(tiny, 16), size)
        handle.remove()
        num_forwards[size] = len(calls)
    assert answers[1] == answers[64]
    assert num_forwards[1] >= 8 * num_forwards[64]


@pytest.mark.slow
def test_nine_of_ten_answers_in_bfloat16_do_not_depend_on_the_batch(world: Path, many_samples: list[Sample]):
    generator = generator_of(composed([f"runtime.output_root={world}"]), torch.bfloat16)
    answer = text_answer_function(generator, 16)
    alone, batched = (answer_in_batches(generator, many_samples[:24], answer, size) for size in (1, 24))
    assert sum(a.text == b.text for a, b in zip(alone, batched, strict=True)) >= 0.9 * 24


# ---- images


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_come_in_the_order_of_their_samples(make_run: Make, tiny: Generator, num_workers: int):
    run = make_run()
    samples = [*samples_of(run, "tiny_gqa"), *samples_of(run, "tiny_mmlu"), *samples_of(run, "tiny_refcocog")]
    images = list(load_images(samples, tiny.image_processor, num_workers=num_workers, num_ahead=4))
    expected = [tiny.encode(sample).pixels for sample in samples]
    assert [image is None for image in images] == [sample.image is None for sample in samples]
    for image, pixels in zip(images, expected, strict=True):
        assert pixels is None or torch.equal(image, pixels)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_image_is_refused_by_sample_when_it_is_its_turn(
    make_run: Make, tiny: Generator, tmp_path: Path, num_workers: int
):
    (tmp_path / "bad.png").write_bytes(b"no image")
    samples = samples_of(make_run(), "tiny_gqa")[:3]
    samples[2] = dataclasses.replace(samples[2], image=tmp_path / "bad.png")
    images = load_images(samples, tiny.image_processor, num_workers=num_workers, num_ahead=4)
    assert next(images) is not None
    assert next(images) is not None
    with pytest.raises(BadImage, match=rf"^sample {samples[2].answer.id}: image .*bad\.png: cannot identify"):
        next(images)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_prompt_batches_hold_all_samples_in_order(make_run: Make, tiny: Generator, num_workers: int):
    samples = samples_of(make_run(), "tiny_gqa")
    batches = list(prompt_batches(tiny, samples, batch_size=4, num_workers=num_workers))
    assert [len(batch.input_ids) for batch in batches] == [4, len(samples) - 4]
    lengths = [length for batch in batches for length in batch.token_counts]
    assert lengths == [len(tiny.prompt_ids(sample)) for sample in samples]
