"""What cannot work is refused with key, value and what is valid."""

from __future__ import annotations

import pytest
from omegaconf.errors import OmegaConfBaseException
from support.config_runs import given_keys, run_of

from vrx.config.validate import validate

REFUSED = [
    (("layer_count.fraction=0.5",), "layer_count.k=8: give either"),
    (("layer_count.k=null",), "layer_count.k=None: give either"),
    (("layer_count.k=33",), "layer_count=33: valid are 1 to 32"),
    (("layer_count.k=40",), "layer_count=40: valid are 1 to 32"),
    (("layer_count.k=null", "layer_count.fraction=1.5"), "layer_count.fraction=1.5: must be between 0.0 and 1.0"),
    (
        ("selector.rule=fixed", "selector.layers=[1,2]"),
        "layer_count.k=8: must be 2",
    ),
    (("selector.layers=[0,32]",), "selector.layers=[0, 32]: [32] not among the layers 0 to 31"),
    (("selector.layers=[]",), "selector.layers=[]: name at least one"),
    (("selector.start=top",), "selector.start=top: not an option of sparse_uniform; valid: selector.offset"),
    (
        ("selector.rule=random",),
        "selector.seed=null: random needs a value",
    ),
    (("selector.rule=mean",), "selector.rule=mean: no such rule"),
    (("data_fraction.fraction=0",), "data_fraction=0: must be above 0"),
    (
        ("layer_count.k=null", "layer_count.fraction=0"),
        "layer_count.fraction=0: must be above 0 and at most 1",
    ),
    (("selector.scores_from_fraction=0",), "selector.scores_from_fraction=0: must be above 0 and at most 1"),
    (("data_fraction.fraction=1.1",), "data_fraction.fraction=1.1: must be between 0 and 1"),
    (("train.global_batch_size=33",), "train.global_batch_size=33: valid is a multiple of"),
    (("runtime.cpu_processes=3",), "train.global_batch_size=32: valid is a multiple of"),
    (("runtime.num_gpus=3",), "train.global_batch_size=32: valid is a multiple of"),
    (("runtime.cpu_processes=0",), "runtime.cpu_processes=0: must be >= 1"),
    (("runtime.num_gpus=-1",), "runtime.num_gpus=-1: must be >= 0"),
    (("runtime.num_workers=-1",), "runtime.num_workers=-1: must be between 0 and 256"),
    (("runtime.num_nodes=2", "runtime.node_rank=2"), "runtime.node_rank=2: must be between 0 and 1"),
    (("runtime.checkpoint_every=0",), "runtime.checkpoint_every=0: must be >= 1"),
    (("train.micro_batch_size=0",), "train.micro_batch_size=0: must be >= 1"),
    (("train.max_steps=0",), "train.max_steps=0: must be >= 1"),
    (("train.epochs=0",), "train.epochs=0: must be >= 1"),
    (("train.lr=-1",), "train.lr=-1.0: must be >= 0"),
    (("train.lr=nan",), "train.lr=nan: must be >= 0"),
    (("train.weight_decay=inf",), "train.weight_decay=inf: must be between 0 and 10000"),
    (("train.projector_lr=inf",), "train.projector_lr=inf: must be between 0 and 10000"),
    (("runtime.num_workers=100000",), "runtime.num_workers=100000: must be between 0 and 256"),
    (("runtime.output_root=''",), "runtime.output_root='': valid is a folder"),
    (("lora.alpha=0",), "lora.alpha=0: must be >= 1"),
    (("lora.r=99999999999999999999999",), "lora.r=99999999999999999999999: must be between 1 and 65536"),
    (("model.max_length=-1",), "model.max_length=-1: must be >= 1"),
    (("benchmark.tiny_gqa.max_new_tokens=0",), "benchmark.tiny_gqa.max_new_tokens=0: must be >= 1"),
    (("selector.layers=[[1,2],[3]]",), "selector.layers=[[1, 2], [3]]: valid is a list of numbers"),
    (("train.warmup_ratio=1.1",), "train.warmup_ratio=1.1: must be between 0 and 1"),
    (("train.dtype=float16",), "train.dtype=float16: valid are float32, bfloat16"),
    (("train.loss_average=sum",), "train.loss_average=sum: valid are micro_batch, token"),
    (("lora.r=0",), "lora.r=0: must be >= 1"),
    (("lora.dropout=1",), "lora.dropout=1.0: must be between 0 and 0.999"),
    (("eval.batch_size=0",), "eval.batch_size=0: must be >= 1"),
    (("eval.limit=0",), "eval.limit=0: must be >= 1"),
    (("engine.name=fsdp",), "engine.name=fsdp: valid are deepspeed, torch"),
    (("engine.zero_stage=4",), "engine.zero_stage=4: must be between 0 and 3"),
    (("engine.name=torch", "runtime.cpu_processes=2", "train.micro_batch_size=16"), "engine.name=torch: runs in one"),
    (("instructions.on_bad_image=ignore",), "instructions.on_bad_image=ignore: valid are error, skip, replace"),
    (("model.image_processor=vit",), "model.image_processor=vit: valid are clip, siglip, dinov2"),
    (("model.image_aspect_ratio=crop",), "model.image_aspect_ratio=crop: valid are pad, square"),
    (("wandb.mode=loud",), "wandb.mode=loud: valid are auto, online, offline, disabled"),
    (
        ("benchmark.tiny_gqa.extra_metrics.score=exact_match",),
        "benchmark.tiny_gqa.extra_metrics.score=exact_match: score is the main metric; valid is any other name",
    ),
    (
        ("benchmark.tiny_gqa.aggregate=mean_per_type",),
        "benchmark.tiny_gqa.aggregate=mean_per_",
    ),
]


@pytest.mark.parametrize(("overrides", "why"), REFUSED, ids=[" ".join(overrides) for overrides, _ in REFUSED])
def test_what_cannot_work_is_refused_by_key_value_and_what_is_valid(overrides: tuple[str, ...], why: str):
    with pytest.raises(ValueError) as refusal:
        given_keys(*overrides)
    assert str(refusal.value).startswith(why)


@pytest.mark.parametrize("override", ["+sed=1", "+train.lrr=1", "+model.depth=3", "+benchmark.tiny_gqa.file=a"])
def test_a_key_of_no_meaning_is_refused_even_where_it_is_added(override: str):
    with pytest.raises(OmegaConfBaseException, match="not in"):
        run_of(override)


def test_a_rank_is_left_to_slurm_where_slurm_says_the_number_of_machines():
    assert given_keys("runtime.node_rank=1").runtime.node_rank == 1


def test_checking_changes_nothing():
    run, again = given_keys(), given_keys()
    validate(run)
    assert run == again
