"""The order of an epoch with `train.group_by_modality`: LLaVA's, independent of the number of ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrx.config.schema import TrainConfig
from vrx.data import sampler
from vrx.data.modality_sampler import modality_grouped_order

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "grouping.json").read_text())
lengths = st.lists(st.integers(-60, 60).filter(bool), min_size=1, max_size=200)
sizes = st.integers(1, 5)
reproducible = settings(deadline=None, derandomize=True)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plan(lengths: list[int], micro: int, chunks: int, *, seed: int = 0) -> sampler.BatchPlan:
    config = TrainConfig(global_batch_size=micro * chunks, micro_batch_size=micro, epochs=2, group_by_modality=True)
    return sampler.BatchPlan([10 * row for row in range(len(lengths))], config, seed=seed, lengths=lengths)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"seed {case['seed']}")
def test_order_matches_llavas_trainer(case):
    """Recorded from its sampler, the version that sorts the remainder, after `torch.manual_seed(seed)`."""
    batch_size = case["micro_batch_size"] * case["num_chunks"]
    order = modality_grouped_order(
        case["lengths"], batch_size=batch_size, num_chunks=case["num_chunks"], generator=seeded(case["seed"])
    )
    assert order == case["order"]


@reproducible
@given(lengths=lengths, micro=sizes, chunks=sizes, seed=st.integers(0, 99))
def test_order_contains_every_sample_once(lengths, micro, chunks, seed):
    order = modality_grouped_order(lengths, batch_size=micro * chunks, num_chunks=chunks, generator=seeded(seed))
    assert sorted(order) == list(range(len(lengths)))


@reproducible
@given(lengths=lengths, micro=sizes, chunks=sizes, seed=st.integers(0, 99))
def test_global_batches_have_one_modality_except_the_remainder_at_the_end(lengths, micro, chunks, seed):
    size = micro * chunks
    order = modality_grouped_order(lengths, batch_size=size, num_chunks=chunks, generator=seeded(seed))
    counts = [sum(length > 0 for length in lengths), sum(length < 0 for length in lengths)]
    num_full = sum((count - 1) // size for count in counts if count)
    for number in range(num_full):
        batch = [lengths[row] for row in order[number * size : (number + 1) * size]]
        assert len({length > 0 for length in batch}) == 1
        for start in range(0, size, micro):
            chunk = [abs(length) for length in batch[start : start + micro]]
            assert chunk == sorted(chunk, reverse=True)
    assert len(order) - num_full * size <= 2 * size


def test_micro_batches_of_a_step_have_about_equal_length():
    words = [length % 97 + 1 for length in range(0, 97 * 64, 97 + 13)]
    order = modality_grouped_order(words, batch_size=len(words), num_chunks=8, generator=seeded(0))
    micro = len(words) // 8
    sums = [sum(words[row] for row in order[start : start + micro]) for start in range(0, micro * 8, micro)]
    assert max(sums) - min(sums) <= max(words)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_order_does_not_depend_on_the_number_of_ranks(ranks):
    grouped = plan(GOLDEN[0]["lengths"], 2, 4)
    of_ranks = [list(grouped.of_rank(rank, ranks)) for rank in range(ranks)]
    joined = [of_ranks[number % ranks][number // ranks] for number in range(grouped.num_steps * 4)]
    again = plan(GOLDEN[0]["lengths"], 2, 4)
    assert joined == [again.chunk(step, number) for step in range(again.num_steps) for number in range(4)]


def test_every_epoch_has_every_row_in_an_order_of_its_epoch_and_seed():
    lengths = GOLDEN[0]["lengths"]
    grouped, other = plan(lengths, 2, 4), plan(lengths, 2, 4, seed=1)

    def epoch(of: sampler.BatchPlan, number: int) -> list[int]:
        steps = range(number * of.steps_per_epoch, (number + 1) * of.steps_per_epoch)
        return [row for step in steps for chunk in range(4) for row in of.chunk(step, chunk)]

    orders = [epoch(grouped, 0), epoch(grouped, 1), epoch(other, 0)]
    assert all(set(order) == {10 * row for row in range(len(lengths))} for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_lengths_are_ignored_without_group_by_modality():
    config = TrainConfig(global_batch_size=8, micro_batch_size=2)
    plain, with_lengths = (
        sampler.BatchPlan(list(range(30)), config, seed=3, lengths=lengths) for lengths in (None, [5] * 30)
    )
    assert [plain.chunk(step, 0) for step in range(4)] == [with_lengths.chunk(step, 0) for step in range(4)]
