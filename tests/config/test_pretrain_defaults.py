"""What `vrx pretrain` means where nothing else is said: LLaVA's stage 1, for each model and recipe."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from support.composing import composed
from support.small_runs import changed, small_run

from vrx.config.paths import CONF
from vrx.runs.identity import pretrain_identity

ALL = {path.stem: yaml.safe_load(path.read_text())["model"] for path in sorted((CONF / "model").glob("*.yaml"))}
MODELS = [name for name, model in ALL.items() if "architecture" not in model]  # assembled from parts, by a projector
FULL_SIZE = [model for model in MODELS if model not in ("tiny", "small")]


@pytest.mark.parametrize("recipe", ["paper", "fast"])
@pytest.mark.parametrize("model", FULL_SIZE)
def test_hyper_parameters_are_those_of_llavas_first_stage(model: str, recipe: str):
    """scripts/v1_5/pretrain.sh of haotian-liu/LLaVA: 8 x 32 samples a step, and no gradient clipping by zero2.json."""
    run = composed([f"model={model}", f"recipe={recipe}", "job=pretrain"])
    train = run.train
    assert run.model.image_aspect_ratio == "square"
    assert (train.lr, train.projector_lr, train.weight_decay, train.max_grad_norm) == (1e-3, 1e-3, 0.0, 0.0)
    assert (train.global_batch_size, train.micro_batch_size, train.epochs) == (256, 32, 1)
    assert train.warmup_ratio == 0.03 and train.scheduler in (None, "cosine")


def test_one_learning_rate_is_set_for_the_projector():
    assert composed(["job=pretrain", "train.lr=5e-4"]).train.projector_lr == 5e-4


@pytest.mark.parametrize("model", MODELS)
def test_every_model_composes_and_a_finetune_keeps_its_own_settings(model: str):
    pretraining, finetune = composed([f"model={model}", "job=pretrain"]), composed([f"model={model}"])
    assert pretraining.train.global_batch_size >= pretraining.train.micro_batch_size
    assert finetune.train.projector_lr < pretraining.train.projector_lr == pretraining.train.lr
    assert finetune.model.architecture == "llava"


def test_identity_depends_on_what_is_trained_and_not_on_what_a_finetune_would_add(tmp_path):
    run = small_run(tmp_path)
    identity = pretrain_identity(run, "digest")
    for key, value in {"lora.r": 4, "layer_count.k": 2, "model.projector": "elsewhere", "benchmark": {}}.items():
        assert pretrain_identity(changed(run, key, value), "digest") == identity, key
    for key, value in {
        "seed": 1,
        "train.lr": 1e-4,
        "captions.on_bad_image": "skip",
        "data_fraction.fraction": 0.5,
    }.items():
        assert pretrain_identity(changed(run, key, value), "digest") != identity, key
    assert pretrain_identity(run, "other captions") != identity
    (tmp_path / "backbone" / "model.safetensors").write_bytes(b"another backbone")
    assert pretrain_identity(dataclasses.replace(run), "digest") != identity
