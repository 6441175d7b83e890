"""Learning-rate schedules are transformers'."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import get_scheduler

from vrx.training.schedule import lr_factor


def test_the_schedule_warms_up_from_zero_and_falls_along_a_half_cosine():
    factors = [lr_factor(step, 100, warmup_ratio=0.03) for step in range(100)]
    assert factors[:4] == [0.0, 1 / 3, 2 / 3, 1.0]
    assert factors == sorted(factors[:4]) + sorted(factors[4:], reverse=True)
    assert factors[51] == pytest.approx(0.5 * (1 + math.cos(math.pi * 48 / 97)))


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "constant_with_warmup"])
@pytest.mark.parametrize("num_steps", [1, 10, 100])
def test_every_schedule_is_that_of_transformers(name, num_steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    warmup = math.ceil(0.03 * num_steps)
    schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=num_steps)
    for step in range(num_steps):
        factor = lr_factor(step, num_steps, warmup_ratio=0.03, scheduler=name)
        assert factor == pytest.approx(schedule.get_last_lr()[0], rel=1e-14, abs=1e-15)
        optimizer.step()
        schedule.step()


def test_without_a_name_the_schedule_is_a_cosine():
    for step in range(50):
        assert lr_factor(step, 50, warmup_ratio=0.1) == lr_factor(step, 50, warmup_ratio=0.1, scheduler="cosine")
