"""The negative log-likelihood equals the model's own loss."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from support.small_models import IMAGE, forward_inputs, rows_of, small_backbone, small_batch, small_lvlm
from torch import nn

from vrx.data.batch import MicroBatch
from vrx.data.instructions.encoding import IGNORE
from vrx.models import log_likelihood


def labelled(seed=0):
    batch = small_batch(seed=seed)
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, IGNORE).masked_fill(
        batch.input_ids == IMAGE, IGNORE
    )
    labels[1, :14] = IGNORE
    return dataclasses.replace(batch, labels=labels)


@pytest.mark.parametrize("positions", [1, 512])
def test_negative_log_likelihood_equals_the_models_own_loss(monkeypatch, positions):
    monkeypatch.setattr(log_likelihood, "HEAD_POSITIONS", positions)
    lvlm, batch = small_lvlm(), labelled()
    sums, counts = log_likelihood.negative_log_likelihood(lvlm, batch)
    assert sums.dtype == torch.float64
    loss = lvlm(**forward_inputs(batch), labels=batch.labels).loss.item()
    assert (sums.sum() / counts.sum()).item() == pytest.approx(loss, rel=1e-5)
    for row, sample in enumerate(rows_of(batch)):
        mask = batch.attention_mask[row].bool()
        alone = log_likelihood.negative_log_likelihood(
            lvlm, dataclasses.replace(sample, labels=batch.labels[row][mask][None])
        )
        assert alone[0].item() == pytest.approx(sums[row].item(), rel=1e-5)
        assert alone[1].item() == counts[row].item()


def test_batch_without_labels_has_sum_and_count_zero():
    batch = labelled()
    sums, counts = log_likelihood.negative_log_likelihood(
        small_lvlm(), dataclasses.replace(batch, labels=batch.labels.fill_(IGNORE))
    )
    assert sums.tolist() == [0, 0, 0] and counts.tolist() == [0, 0, 0]


def test_negative_log_likelihood_of_a_backbone_equals_its_own_loss():
    backbone = small_backbone()
    ids = torch.randint(2, 64, (1, 40), generator=torch.Generator().manual_seed(0))
    batch = MicroBatch(ids, ids, attention_mask=torch.ones_like(ids))
    total, number = log_likelihood.negative_log_likelihood(backbone, batch)
    assert number.tolist() == [39]
    assert total.item() / 39 == pytest.approx(backbone(ids, labels=ids).loss.item(), rel=1e-5)
    nn.init.zeros_(backbone.lm_head.weight)
    total, _ = log_likelihood.negative_log_likelihood(backbone, batch)
    assert total.item() / 39 == pytest.approx(math.log(64))  # one of 64 words, evenly
