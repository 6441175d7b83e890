"""The LVLM in memory against what the official LLaVA and Bunny code computed from the same files.

`golden/official_models`: small made-up checkpoints in each official layout, and arrays made of them by
haotian-liu/LLaVA c121f043 (transformers 4.37.2) and BAAI-DCAI/Bunny 08273acb (4.40.0), fp32, eager. Tolerances:
1e-4 on logits and per-token losses, 1e-5 on losses, pixels and features, integers exact.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cache

import numpy as np
import pytest
import torch
from official import FAMILIES, GOLDEN, model_config

from vrx import batches, lora, models, supervised, train
from vrx.config import LoraConfig
from vrx.images import Pixels, open_rgb
from vrx.layouts import adapter_tensors, beside_adapter
from vrx.prompts import IGNORE, expand_images, tokenize, tokenize_prompt


@cache
def loaded(family: str, lvlm: str | None):
    needed = [FAMILIES[family]["vision_tower"], *([lvlm] if lvlm else [])]
    if lvlm != FAMILIES[family]["lvlm"]:
        needed.append(FAMILIES[family]["backbone"])
    absent = [name for name in needed if not (GOLDEN / family / name).is_dir()]
    if absent:
        pytest.skip(f"{', '.join(absent)}: kept outside the repository, see VRX_OFFICIAL_MODELS")
    return models.load(model_config(family, lvlm))


@cache
def cases(family: str):
    return json.loads((GOLDEN / family / "cases.json").read_text(encoding="utf-8"))


@cache
def arrays(family: str, name: str):
    path = GOLDEN / family / "arrays" / name
    with np.load(path) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def runs(name: str):
    """Family and key of each run of the model in a file of arrays."""
    found = []
    for family in FAMILIES:
        if (GOLDEN / family / "arrays" / name).is_file():
            found += [(family, key[: -len("/loss")]) for key in arrays(family, name) if key.endswith("/loss")]
    return found


def encoded(family: str, case_id: str, max_length: int):
    """One visible case with its image in place, cut as the official code cuts it (through an image too)."""
    config = model_config(family, None)
    found = next(case for case in cases(family)["conversations"] + cases(family)["edge"] if case["id"] == case_id)
    tokenizer = models.tokenizer_of(config)
    has_image = "image" in found
    told = tokenize(found["conversations"], tokenizer, config.template, has_image=has_image, max_length=max_length)
    ids, labels = expand_images(
        told.input_ids,
        told.labels,
        image_token_id=models.image_token_id(config, tokenizer),
        num_image_tokens=16,
        max_length=max_length,
        keep_cut_images=True,
    )
    pixels = Pixels(config)(open_rgb(GOLDEN / "images" / found["image"])) if has_image else None
    pixels = pixels if models.image_token_id(config, tokenizer) in ids else None
    return {"input_ids": ids, "labels": labels, "pixels": pixels, "bad": [], "cut": []}


@torch.inference_mode()
def hidden_states(lvlm, batch):
    """What goes into each decoder layer, and last what comes out of the final norm."""
    call = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    return lvlm(**call, pixel_values=batch["pixels"], output_hidden_states=True).hidden_states


@torch.inference_mode()
def outputs(lvlm, batch):
    """Logits and per-token losses of a batch, as the official model gives them."""
    call = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    logits = lvlm(**call, pixel_values=batch["pixels"]).logits
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], ignore_index=IGNORE, reduction="none"
    )
    return logits, losses


def near(ours: torch.Tensor, official: torch.Tensor, tolerance: float) -> None:
    assert (ours - official).abs().max() < tolerance


MIXED = ("landscape.png", None, "gray_L.png", "odd_57x56.png")  # images of the batch whose text is in its ids alone


def given_batch(family: str, key: str = "merged/batch/mixed/2048"):
    """The batch of four that LoRA and stage 0 are checked with, from official ids and labels."""
    told = {name: arrays(family, "lora.npz")[f"{key}/{name}"] for name in ("input_ids", "attention_mask", "labels")}
    config = model_config(family, None)
    tokenizer = models.tokenizer_of(config)
    image_token_id = models.image_token_id(config, tokenizer)
    rows = []
    for number, image in enumerate(MIXED):
        length = int(told["attention_mask"][number].sum())
        ids = told["input_ids"][number].tolist()[: length - 15 if image else length]
        ids, _ = expand_images(ids, None, image_token_id=image_token_id, num_image_tokens=16)
        pixels = Pixels(config)(open_rgb(GOLDEN / "images" / image)) if image else None
        labels = told["labels"][number][:length].tolist()
        rows.append({"input_ids": ids, "labels": labels, "pixels": pixels, "bad": [], "cut": []})
    return batches.collate(rows, pad_token_id=int(tokenizer.pad_token_id))


def batch_of(family: str, key: str):
    """The batch behind a run, from the cases themselves where their text is there."""
    kind, name, length = key.split("/")[-3:]
    if (kind, name) == ("batch", "mixed"):
        return given_batch(family)
    ids = cases(family)["batches"][name]["ids"] if kind == "batch" else [name]
    tokenizer = models.tokenizer_of(model_config(family, None))
    return batches.collate(
        [encoded(family, case_id, int(length)) for case_id in ids], pad_token_id=int(tokenizer.pad_token_id)
    )


def check_run(family: str, lvlm, name: str, key: str) -> None:
    expected = {k.removeprefix(key + "/"): v for k, v in arrays(family, name).items() if k.startswith(key + "/")}
    columns = int(arrays(family, name).get("columns", 1))  # of wide arrays every so many are kept
    batch = batch_of(family, key)
    real = expected.get("attention_mask", batch["attention_mask"].bool())
    assert torch.equal(batch["attention_mask"].bool(), real)
    if "labels" in expected:
        assert torch.equal(batch["labels"][real], expected["labels"][real].long())
    logits, losses = outputs(lvlm, batch)
    step = int(expected["logits_step"])
    shown = real[:, ::step]
    near(logits[:, ::step, ::columns][shown], expected["logits"][shown], 1e-4)
    near(losses, expected["nll"], 1e-4)
    supervised = (batch["labels"][:, 1:] != IGNORE).sum()
    assert (losses.sum() / supervised).item() == pytest.approx(expected["loss"].item(), abs=1e-5)
    assert torch.equal(logits.argmax(-1)[real], expected["argmax"][real].long())
    if "logsumexp" in expected:
        near(logits.logsumexp(-1)[real], expected["logsumexp"][real], 1e-4)
    if "last_hidden" in expected:
        near(hidden_states(lvlm, batch)[-1][..., ::columns][real], expected["last_hidden"][real], 1e-4)
    if "hidden_states" in expected:
        ours = torch.stack(hidden_states(lvlm, batch))[..., ::columns]
        near(ours, expected["hidden_states"], 1e-4)
        near(ours[0], expected["inputs_embeds"], 1e-5)


@pytest.mark.parametrize(("family", "key"), runs("forward.npz"))
def test_a_checkpoint_in_its_official_layout_gives_the_official_logits(family, key):
    check_run(family, loaded(family, FAMILIES[family]["lvlm"]), "forward.npz", key)


@pytest.mark.parametrize(("family", "key"), [run for run in runs("lora.npz") if run[1].startswith("merged/")])
def test_a_lora_output_merged_onto_its_base_gives_the_official_logits(family, key):
    check_run(family, loaded(family, FAMILIES[family]["adapter"]), "lora.npz", key)


@pytest.mark.parametrize(("family", "key"), runs("stage0.npz"))
def test_an_lvlm_assembled_from_its_parts_gives_the_official_logits(family, key):
    check_run(family, loaded(family, None), "stage0.npz", key)


PIXELS = [
    (family, key)
    for family in FAMILIES
    if (GOLDEN / family / "arrays" / "pixels.npz").is_file()
    for key in arrays(family, "pixels.npz")
    if "mean_std" not in key
]


@pytest.mark.parametrize(("family", "key"), PIXELS)
def test_pixels_are_the_official_ones(family, key):
    how, image = key.split("/")
    kept = arrays(family, "pixels.npz")
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
    near(ours[:, ::step, ::step], kept[key], 1e-5)
    if step > 1:
        mean, deviation = kept[f"{how.partition('_')[0]}_mean_std/{image}"].tolist()
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
def test_features_of_tower_and_projector_are_the_official_ones(family, key):
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
    (family, key.removesuffix("/output_ids"))
    for family in FAMILIES
    for key in arrays(family, "generate.npz")
    if key.endswith("/output_ids")
]


@pytest.mark.parametrize(("family", "key"), GENERATED)
@torch.inference_mode()
def test_greedy_answers_are_the_official_ones(family, key):
    run, case_id = key.split("/")
    case = next(case for case in cases(family)["generation"] if (case["run"], case["id"]) == (run, case_id))
    expected = {name: arrays(family, "generate.npz")[f"{key}/{name}"] for name in ("output_ids", "top5_ids")}
    lvlm = loaded(family, FAMILIES[family]["lvlm" if run == "full" else "adapter"])
    config = model_config(family, None)
    tokenizer = models.tokenizer_of(config)
    prompt = tokenize_prompt(case["question"], tokenizer, config.template, has_image=True)
    assert prompt == arrays(family, "generate.npz")[f"{key}/input_ids"].tolist()
    image_token_id = models.image_token_id(config, tokenizer)
    ids = torch.tensor([expand_images(prompt, None, image_token_id=image_token_id, num_image_tokens=16)[0]])
    told = lvlm.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=Pixels(config)(open_rgb(GOLDEN / "images" / case["image"]))[None],
        max_new_tokens=12,
        return_dict_in_generate=True,
        output_logits=True,
    )
    answer = told.sequences[0, ids.shape[1] :]
    assert answer.tolist() == expected["output_ids"].tolist()[-12:]  # LLaVA's generate puts a BOS before them
    assert tokenizer.decode(answer, skip_special_tokens=True).strip() == case["text"].strip()
    top = torch.cat(told.logits).topk(5)
    assert torch.equal(top.indices, expected["top5_ids"].long())
    near(top.values, arrays(family, "generate.npz")[f"{key}/top5_logits"], 1e-4)


def tuning(family: str):
    """An LVLM in tuning, where the official trainer began: the adapter not merged, beside the projector."""
    loaded(family, FAMILIES[family]["adapter"])  # skips where it is not at hand
    folder = GOLDEN / family / FAMILIES[family]["adapter"]
    lvlm = models.load(model_config(family, None))
    layers = cases(family)["meta"]["lora_layers"]
    tuned = lora.apply_lora(lvlm, layers, LoraConfig(r=8, alpha=16, dropout=0.0))
    stored, pairs, scale = adapter_tensors(folder)
    assert scale == 2
    state = beside_adapter(folder)
    for weight, pair in pairs.items():
        for half, name in pair.items():
            state[weight.replace("weight", f"lora_{half}.default.weight")] = stored[name]
    missing, unexpected = tuned.base_model.model.load_state_dict(state, strict=False)
    assert not unexpected and not any("lora" in name or "projector" in name for name in missing)
    return supervised.Supervised(lvlm, Pixels(model_config(family, None)).blank())


def our_name(official: str) -> str:
    """base_model.model.model.layers.1.mlp.up_proj.lora_A.default.weight, as the module that is trained names it."""
    name = official.replace("base_model.model.model.layers", "lvlm.model.language_model.layers")
    for number, linear in (("0", "linear_1"), ("2", "linear_2")):
        name = name.replace(
            f"base_model.model.model.mm_projector.{number}.", f"lvlm.model.multi_modal_projector.{linear}."
        )
    return name


def loss_of(module, batch):
    call = {key: batch[key] for key in ("input_ids", "labels", "attention_mask", "pixels")}
    return module(**call) / supervised.num_supervised(batch)


TUNED = [family for family in FAMILIES if (GOLDEN / family / "arrays" / "lora.npz").is_file()]


@pytest.mark.parametrize("family", TUNED)
def test_gradients_of_adapter_and_projector_are_the_official_ones(family):
    kept, module = arrays(family, "lora.npz"), tuning(family)
    loss = loss_of(module, given_batch(family))
    assert loss.item() == pytest.approx(kept["unmerged/mixed/loss"].item(), abs=1e-5)
    loss.backward()
    ours = {name: parameter.grad for name, parameter in lora.trainable_parameters(module).items()}
    official = {our_name(key[5:]): value for key, value in kept.items() if key.startswith("grad/")}
    assert ours.keys() == official.keys()
    for name, gradient in official.items():
        columns = int(kept.get("columns", 1)) if gradient.ndim > 1 else 1
        assert (ours[name][..., ::columns] - gradient).abs().max() < 1e-4 * gradient.abs().max(), name


@pytest.mark.parametrize("family", TUNED)
def test_text_alone_gives_the_projector_a_gradient_of_exactly_zero(family):
    module = tuning(family)
    batch = batches.collate([encoded(family, "c3_text_only", 2048)], pad_token_id=0)
    loss_of(module, batch).backward()
    told = cases(family)["meta"]["lora_text_only_projector_grad_absmax"]
    for name, largest in told.items():
        assert module.get_parameter(our_name(name)).grad.abs().max() == largest == 0.0


def test_the_first_micro_batches_of_the_official_training_have_its_losses():
    """The first step has learning rate 0, so the first two steps see the weights that training begins with. Of their
    micro-batches, two consist of texts that are here; the last text is in the ids of the batch of four alone."""
    family = "llava_official"
    module, trace = tuning(family), arrays(family, "train_trace.npz")
    order = json.loads((GOLDEN / family / "train.json").read_text())["order"]
    assert order[:2] == ["c2_multi_tag_end", "c3_text_only"] and order[4:6] == ["c1_single", "c6_unicode"]
    first = batches.collate([encoded(family, case_id, 2048) for case_id in order[:2]], pad_token_id=0)
    four = given_batch(family)
    third = {key: value[[0, 3]] for key, value in four.items() if key in ("input_ids", "labels", "attention_mask")}
    third["pixels"] = four["pixels"][[0, 2]]  # of c1 and c6
    for number, batch in {0: first, 2: third}.items():
        assert supervised.num_supervised(batch) == trace["micro_n_supervised"][number]
        assert loss_of(module, batch).item() == pytest.approx(trace["micro_loss"][number].item(), abs=1e-4)


def test_the_learning_rates_are_those_of_the_official_training():
    family = "llava_official"
    told = json.loads((GOLDEN / family / "train.json").read_text())["hyper"]
    expected = arrays(family, "train_trace.npz")["lr_per_step_per_group"]
    for step, official in enumerate(expected.tolist()):
        factor = train.lr_factor(step, len(expected), told["warmup_ratio"])
        ours = [told["learning_rate"] * factor] * 2 + [told["mm_projector_lr"] * factor] * 2
        assert ours == official
