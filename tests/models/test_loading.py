"""The LVLM in memory compared with results of the official LLaVA and Bunny code from the same files.

`golden/official_models`: small synthetic checkpoints in each official layout, and arrays made of them by
haotian-liu/LLaVA c121f043 (transformers 4.37.2) and BAAI-DCAI/Bunny 08273acb (4.40.0), fp32, eager. Tolerances:
1e-4 on logits and per-token losses, 1e-5 on losses, pixels and features, integers exact.
"""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from support.official import (
    FAMILIES,
    GOLDEN,
    arrays,
    cases,
    conversations,
    encoded,
    loaded,
    loss_of,
    model_config,
    near,
    our_name,
    recorded_batch,
    tuning,
)

from vrx.data.images.processing import Pixels, open_rgb
from vrx.data.instructions.encoding import IGNORE, expand_images, tokenize_prompt
from vrx.models import loading, lora


def runs(name: str):
    """Family and key of each run of the model in a file of arrays."""
    keys = []
    for family in FAMILIES:
        if (GOLDEN / family / "arrays" / name).is_file():
            keys += [(family, key[: -len("/loss")]) for key in arrays(family, name) if key.endswith("/loss")]
    return keys


@torch.inference_mode()
def hidden_states(lvlm, batch):
    """The input of each decoder layer, followed by the output of the final norm."""
    call = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    return lvlm(**call, pixel_values=batch.pixels, output_hidden_states=True).hidden_states


@torch.inference_mode()
def outputs(lvlm, batch):
    """Logits and per-token losses of a batch, as the official model gives them."""
    call = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    logits = lvlm(**call, pixel_values=batch.pixels).logits
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), batch.labels[:, 1:], ignore_index=IGNORE, reduction="none"
    )
    return logits, losses


def batch_of(family: str, key: str):
    """The batch of a run, tokenized from its cases if their text is available."""
    kind, name, length = key.split("/")[-3:]
    ids = cases(family)["batches"].get(name, {"ids": ()})["ids"] if kind == "batch" else [name]
    if ids and set(ids) <= conversations(family).keys():
        return encoded(family, *[conversations(family)[case_id] for case_id in ids], max_length=int(length))
    if name != "mixed" or not (GOLDEN / family / "arrays" / "lora.npz").is_file():
        pytest.skip(f"{key}: its text is not available")
    return recorded_batch(family)


def check_run(family: str, lvlm, name: str, key: str) -> None:
    expected = {k.removeprefix(key + "/"): v for k, v in arrays(family, name).items() if k.startswith(key + "/")}
    columns = int(arrays(family, name).get("columns", 1))  # wide arrays hold only every n-th column
    batch = batch_of(family, key)
    length = batch.input_ids.shape[1]
    if batch.cut_images:  # ours ends before a cut image, the official one continues without labels
        assert not expected["nll"][:, length - 1 :].any() and (expected["labels"][:, length:] == IGNORE).all()
    else:
        assert torch.equal(batch.attention_mask.bool(), expected.get("attention_mask", batch.attention_mask) > 0)
    real = batch.attention_mask.bool()

    def official(name: str) -> torch.Tensor:
        return expected[name][:, :length]

    if "labels" in expected:
        assert torch.equal(batch.labels[real], official("labels")[real].long())
    logits, losses = outputs(lvlm, batch)
    step = int(expected["logits_step"])
    shown = real[:, ::step]
    near(logits[:, ::step, ::columns][shown], expected["logits"][:, : shown.shape[1]][shown], 1e-4)
    near(losses, expected["nll"][:, : length - 1], 1e-4)
    supervised = (batch.labels[:, 1:] != IGNORE).sum()
    mean = (losses.sum() / supervised).item()  # NaN in both if nothing is learned
    assert mean == pytest.approx(expected["loss"].item(), abs=1e-5, nan_ok=True)
    assert torch.equal(logits.argmax(-1)[real], official("argmax")[real].long())
    if "logsumexp" in expected:
        near(logits.logsumexp(-1)[real], official("logsumexp")[real], 1e-4)
    if "last_hidden" in expected:
        near(hidden_states(lvlm, batch)[-1][..., ::columns][real], official("last_hidden")[real], 1e-4)
    if "hidden_states" in expected:
        ours = torch.stack(hidden_states(lvlm, batch))[..., ::columns]
        near(ours, expected["hidden_states"], 1e-4)
        near(ours[0], expected["inputs_embeds"], 1e-5)


@pytest.mark.parametrize(("family", "key"), runs("forward.npz"))
def test_checkpoint_in_its_official_layout_gives_the_official_logits(family, key):
    check_run(family, loaded(family, FAMILIES[family]["lvlm"]), "forward.npz", key)


@pytest.mark.parametrize(("family", "key"), [run for run in runs("lora.npz") if run[1].startswith("merged/")])
def test_lora_output_merged_onto_its_base_gives_the_official_logits(family, key):
    check_run(family, loaded(family, FAMILIES[family]["adapter"]), "lora.npz", key)


@pytest.mark.parametrize(("family", "key"), runs("stage0.npz"))
def test_lvlm_assembled_from_its_parts_gives_the_official_logits(family, key):
    check_run(family, loaded(family, None), "stage0.npz", key)


PIXELS = [
    (family, key)
    for family in FAMILIES
    if (GOLDEN / family / "arrays" / "pixels.npz").is_file()
    for key in arrays(family, "pixels.npz")
    if "mean_std" not in key
]


@pytest.mark.parametrize(("family", "key"), PIXELS)
def test_pixels_match_the_official_code(family, key):
    how, image = key.split("/")
    recorded = arrays(family, "pixels.npz")
    config = dataclasses.replace(model_config(family, None), image_aspect_ratio=how if how == "square" else "pad")
    pixels, step = Pixels(config), 1
    if "every" in how:  # in the size of the real towers
        side, step = (int(part) for part in how.removeprefix("pad").split("_every"))
        exact = {"height": side, "width": side}
        if config.image_processor == "clip":
            pixels.processor.size, pixels.processor.crop_size = {"shortest_edge": side}, exact
        else:
            pixels.processor.size = exact
    ours = pixels(open_rgb(GOLDEN / "images" / image))
    near(ours[:, ::step, ::step], recorded[key], 1e-5)
    if step > 1:
        mean, deviation = recorded[f"{how.partition('_')[0]}_mean_std/{image}"].tolist()
        assert ours.mean().item() == pytest.approx(mean, abs=1e-5)
        assert ours.numpy().std().item() == pytest.approx(deviation, abs=1e-5)


FEATURES = [
    (family, key)
    for family in FAMILIES
    if (GOLDEN / family / "arrays" / "features.npz").is_file()
    for key in arrays(family, "features.npz")
    if "/" in key
]


@pytest.mark.parametrize(("family", "key"), FEATURES)
@torch.inference_mode()
def test_features_of_tower_and_projector_match_the_official_code(family, key):
    what, image = key.split("/")
    lvlm = loaded(family, FAMILIES[family]["lvlm"])
    pixels = Pixels(model_config(family, None))
    value = pixels.blank() if image == "zeros" else pixels(open_rgb(GOLDEN / "images" / image))
    features = lvlm.model.get_image_features(pixel_values=value[None])
    ours = features.pooler_output[0]
    if what == "tower":
        ours = features.hidden_states[-2][0, 1 if family == "llava_official" else 0 :]
    near(ours, arrays(family, "features.npz")[key], 1e-5)


GENERATED = [
    (family, *match.groups())
    for family in FAMILIES
    for key in arrays(family, "generate.npz")
    if (match := re.fullmatch(r"(\w+)/([^/_]+)(?:_eos_at_(\d+))?(?:/output_ids)?", key))
]


@pytest.mark.parametrize(("family", "run", "case_id", "end"), GENERATED)
@torch.inference_mode()
def test_greedy_answers_match_the_official_code(family, run, case_id, end):
    """`end`, if present, is a token of the answer used as end token: the answer stops with it."""
    case = next(case for case in cases(family)["generation"] if (case["run"], case["id"]) == (run, case_id))
    recorded = arrays(family, "generate.npz")
    lvlm = loaded(family, FAMILIES[family]["lvlm" if run == "full" else "adapter"])
    config = model_config(family, None)
    tokenizer = loading.load_model_tokenizer(config)
    prompt = tokenize_prompt(case["question"], tokenizer, config.template, has_image=True)
    assert prompt == recorded[f"{run}/{case_id}/input_ids"].tolist()
    image_token_id = loading.image_token_id(config, tokenizer)
    ids = torch.tensor([expand_images(prompt, None, image_token_id=image_token_id, num_image_tokens=16)[0]])
    ours = lvlm.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=Pixels(config)(open_rgb(GOLDEN / "images" / case["image"]))[None],
        max_new_tokens=12,
        return_dict_in_generate=True,
        output_logits=True,
        **({"eos_token_id": int(end)} if end else {}),
    )
    answer = ours.sequences[0, ids.shape[1] :].tolist()
    official = recorded[f"{run}/{case_id}/output_ids"].tolist()[-12:]  # preceded by a BOS or the prompt
    assert answer == (official[: official.index(int(end)) + 1] if end else official)
    if end:
        return
    assert tokenizer.decode(answer, skip_special_tokens=True).strip() == case["text"].strip()
    top = torch.cat(ours.logits).topk(5)
    assert torch.equal(top.indices, recorded[f"{run}/{case_id}/top5_ids"].long())
    near(top.values, recorded[f"{run}/{case_id}/top5_logits"], 1e-4)


TUNED = [family for family in FAMILIES if (GOLDEN / family / "arrays" / "lora.npz").is_file()]


@pytest.mark.parametrize("family", TUNED)
def test_gradients_of_adapter_and_projector_match_the_official_code(family):
    recorded, module = arrays(family, "lora.npz"), tuning(family)
    loss = loss_of(module, recorded_batch(family))
    assert loss.item() == pytest.approx(recorded["unmerged/mixed/loss"].item(), abs=1e-5)
    loss.backward()
    ours = {name: parameter.grad for name, parameter in lora.trainable_parameters(module).items()}
    official = {our_name(key[5:]): value for key, value in recorded.items() if key.startswith("grad/")}
    assert ours.keys() == official.keys()
    for name, gradient in official.items():
        columns = int(recorded.get("columns", 1)) if gradient.ndim > 1 else 1
        assert (ours[name][..., ::columns] - gradient).abs().max() < 1e-4 * gradient.abs().max(), name


@pytest.mark.parametrize("family", TUNED)
def test_projector_gradient_of_text_alone_is_exactly_zero(family):
    module = tuning(family)
    loss_of(module, encoded(family, conversations(family)["c3_text_only"])).backward()
    recorded = cases(family)["meta"]["lora_text_only_projector_grad_absmax"]
    for name, largest in recorded.items():
        assert module.get_parameter(our_name(name)).grad.abs().max() == largest == 0.0
