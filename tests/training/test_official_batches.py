"""Odd batches have the official loss: samples with a cut image, texts that spell the image token."""

from __future__ import annotations

import pytest
from support.official import FAMILIES, conversations, encoded, loss_of, model_config, our_name, tuning
from support.official_trainer import FAMILY, SUBSTITUTES, Reference, talk

from vrx.models import loading, lora
from vrx.training.loss import num_supervised


@pytest.mark.parametrize("case_id", ["c4_tag_in_second_turn", "c2_multi_tag_end"])
def test_a_sample_with_a_cut_image_has_the_official_loss_and_gradients(case_id):
    """Cut before its image, within it and after it, next to a complete sample."""
    pair = [conversations(FAMILY)[case_id], SUBSTITUTES["e3_answer_trailing_space"]]
    reference, module = Reference(), tuning(FAMILY)
    trainable = lora.trainable_parameters(module)
    ends = [end_of_image(conversation) for conversation in pair]
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


def end_of_image(conversation: dict) -> int:
    """The position after the last image token of a conversation."""
    config = model_config(FAMILY, None)
    token = loading.image_token_id(config, loading.load_model_tokenizer(config))
    return encoded(FAMILY, conversation).input_ids[0].tolist().index(token) + config.num_image_tokens
