"""The batch plan covers every row and does not depend on the number of ranks."""

from __future__ import annotations

import pytest

from vrx.config.schema import TrainConfig
from vrx.data import sampler


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_micro_batches_do_not_depend_on_the_number_of_ranks(ranks):
    config = TrainConfig(global_batch_size=8, micro_batch_size=2, epochs=2)
    plan = sampler.BatchPlan(list(range(30)), config, seed=3)
    chunks = [list(plan.of_rank(rank, ranks)) for rank in range(ranks)]
    joined = [chunks[number % ranks][number // ranks] for number in range(plan.num_steps * 4)]
    assert joined == [plan.chunk(step, number) for step in range(plan.num_steps) for number in range(4)]


def test_every_epoch_has_every_row_in_an_order_of_its_own():
    plan = sampler.BatchPlan(list(range(30)), TrainConfig(global_batch_size=8, micro_batch_size=4, epochs=2), seed=0)
    epochs = [[row for step in range(4) for n in range(2) for row in plan.chunk(step + 4 * e, n)] for e in range(2)]
    assert all(set(epoch) == set(range(30)) for epoch in epochs)
    assert epochs[0] != epochs[1]
