"""LoRA is on the chosen layers only, starts equal in paired runs, and only it and the projector are trained."""

from __future__ import annotations

import re

import peft
import pytest
import torch

from vrx.data import batch
from vrx.data.images.processing import Pixels
from vrx.data.instructions import dataset, instruction_dataset
from vrx.models import from_run, loading, lora, lora_checkpoint
from vrx.runs.layer_selection import select_layers
from vrx.training import engine, loss

LAYERS = (0, 3, 17, 31)


@pytest.fixture
def first_batch(make_run, world):
    run = make_run()
    table = instruction_dataset.build_table(
        run.instructions, world / "data", digest=instruction_dataset.data_digest(run.instructions)
    )
    tokenizer = loading.load_model_tokenizer(run.model)
    source = dataset.TrainingDataset(
        instruction_dataset.open_table(table),
        run.model,
        tokenizer,
        image_token_id=loading.image_token_id(run.model, tokenizer),
        image_folder=world / "data" / "tiny" / "images",
        on_bad_image="error",
    )
    return batch.collate([source[index] for index in range(4)], pad_token_id=tokenizer.pad_token_id)


def inputs(batch):
    return batch.model_inputs()


@pytest.mark.parametrize("layers", [(0,), (31,), LAYERS, tuple(range(32))])
def test_exactly_the_chosen_layers_have_adapters(make_run, layers):
    run = make_run()
    tuned = lora.apply_lora(loading.load(run.model), layers, run.lora)
    adapted = {name for name, module in tuned.named_modules() if hasattr(module, "lora_A")}
    assert len(adapted) == 7 * len(layers)
    assert {int(re.search(r"language_model\.layers\.(\d+)\.", name).group(1)) for name in adapted} == set(layers)


@pytest.mark.parametrize("layers", [(), (32,), (-1,), (1, 1)])
def test_layers_that_do_not_exist_are_refused(make_run, layers):
    run = make_run()
    with pytest.raises(ValueError, match="valid are distinct layers among 0 to 31"):
        lora.apply_lora(loading.load(run.model), layers, run.lora)


def test_first_step_changes_only_lora_b_and_the_projector(make_run, first_batch):
    run = make_run("engine.name=torch", "train.global_batch_size=4", "train.micro_batch_size=4")
    lvlm = loading.load(run.model)
    lora.apply_lora(lvlm, LAYERS, run.lora)
    module = loss.LvlmWithLoss(lvlm, Pixels(run.model).blank())
    before = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    runner = engine.create(
        module, [{"params": list(lora.trainable_parameters(module).values()), "lr": 1e-3}], run.train, run.engine
    )
    runner.backward(runner(**inputs(first_batch)))
    for name, tensor in module.named_parameters():
        moved = not torch.equal(tensor, before[name])
        # lora_B starts at zero, so the gradient of lora_A is zero in the first step
        expected = "lora_B" in name or "multi_modal_projector" in name
        assert moved == expected, name


def test_initial_adapter_does_not_depend_on_other_tuned_layers(make_run):
    run = make_run()

    def start(layers, seed):
        tuned = lora.apply_lora(loading.load(run.model), layers, run.lora, seed=seed)
        return {name: tensor for name, tensor in tuned.named_parameters() if ".layers.12." in name and "lora_A" in name}

    few, many, other = start((12,), 0), start(tuple(range(32)), 0), start((12,), 1)
    assert len(few) == 7
    for name, tensor in few.items():
        assert torch.equal(tensor, many[name]), name
        assert not torch.equal(tensor, other[name]), name
    assert len({tensor.sum().item() for tensor in few.values()}) == 7


@torch.inference_mode()
def test_saved_adapter_loads_with_plain_peft_and_merges(make_run, first_batch, tmp_path):
    run = make_run()
    lvlm = loading.load(run.model)
    tuned = lora.apply_lora(lvlm, select_layers(run), run.lora)
    generator = torch.Generator().manual_seed(0)
    state = {
        name: tensor + 0.02 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in lora.trainable_parameters(tuned).items()
    }
    tuned.load_state_dict(state, strict=False)
    lora_checkpoint.save_adapter(tuned, state, tmp_path)
    call = {
        "input_ids": first_batch.input_ids,
        "attention_mask": first_batch.attention_mask,
        "pixel_values": first_batch.pixels,
    }
    expected = tuned.eval()(**call).logits

    inner = {name.removeprefix("base_model.model."): tensor for name, tensor in state.items()}
    lora_checkpoint.save_adapter(tuned, inner, tmp_path / "again")  # as training names them
    file = "adapter_model.safetensors"
    assert (tmp_path / "again" / file).read_bytes() == (tmp_path / file).read_bytes()

    plain = peft.PeftModel.from_pretrained(loading.load(run.model), str(tmp_path))  # the projector too
    assert torch.equal(plain.eval()(**call).logits, expected)

    merged = from_run.load_adapter(loading.load(run.model), tmp_path)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(merged.eval()(**call).logits, expected, atol=1e-4, rtol=0)
