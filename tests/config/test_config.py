"""Every option of `conf/` composes into a checked run, and a run survives being frozen and read back."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vrx.config.compose import compose_config, composing
from vrx.config.errors import UserError
from vrx.config.frozen import freeze, load_frozen, thaw, to_run
from vrx.config.layers import num_selected
from vrx.config.paths import CONF
from vrx.config.resolve import known_names, resolve_name
from vrx.config.schema import RunConfig
from vrx.config.validate import validate
from vrx.runs.layer_selection import select_layers

GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
REAL_MODELS = ["llava-1.5-7b", "llava-1.5-13b", "bunny-llama3-8b", "bunny-phi3-mini-4b"]


@cache
def composed(*overrides: str) -> Any:
    """What Hydra makes of a command line."""
    with composing(CONF):
        return compose_config(list(overrides))


def run_of(*overrides: str) -> RunConfig:
    return to_run(composed(*overrides))


@cache
def default() -> str:
    return freeze(run_of("benchmark=tiny_gqa"))


def given_keys(*assignments: str) -> RunConfig:
    """The default run with some keys set, without Hydra, which takes its time."""
    values = OmegaConf.create(default())
    del values["schema_version"]
    return to_run(OmegaConf.merge(values, OmegaConf.from_dotlist(list(assignments))))


def matching(group: str, option: str) -> list[str]:
    """What an option needs beside itself: a decoder that deep, benchmarks that its model has data for."""
    if group == "benchmark":
        return []
    if group == "selector" and "formula:" in (CONF / group / f"{option}.yaml").read_text(encoding="utf-8"):
        return [
            "job=score",
            "benchmark=tiny_gqa",
        ]  # selects by scores that this job makes, see tests/jobs/test_score.py
    if option == "40_layers":
        return ["model=llava-1.5-13b", "benchmark=gqa"]
    return ["benchmark=gqa" if group == "model" and option != "tiny" else "benchmark=tiny_gqa"]


# ---- every option


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_makes_a_run(group: str, option: str):
    run = run_of(f"{group}={option}", *matching(group, option))
    if run.selector.formula is None:
        assert 1 <= len(select_layers(run)) <= run.model.num_layers
    assert run.benchmark


@pytest.mark.parametrize(
    ("group", "option"), [pair for pair in OPTIONS if pair[0] in ("model", "selector", "job", "recipe")]
)
def test_an_option_is_named_as_its_file(group: str, option: str):
    part = composed(f"{group}={option}", *matching(group, option))[group]
    assert (part if isinstance(part, str) else part.name) == option


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_option_says_what_it_is(path: Path):
    text = path.read_text(encoding="utf-8")
    assert "# " in text or len(text.splitlines()) == 1  # `k: 8` under layer_count/8_layers says it all


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("visual", ["ocrvqa", "docvqa", "refcocog", "tdiuc", "mmbench", "gqa", "scienceqa", "textvqa"]),
        ("textual", ["mmlu", "bbh"]),
        ("all", ["ocrvqa", "docvqa", "refcocog", "tdiuc", "mmbench", "gqa", "scienceqa", "textvqa", "mmlu", "bbh"]),
        ("[gqa,mmlu]", ["gqa", "mmlu"]),
    ],
)
def test_a_set_of_benchmarks_is_its_members_in_the_order_of_the_papers_tables(name: str, members: list[str]):
    assert list(run_of("model=llava-1.5-7b", f"benchmark={name}").benchmark) == members


def test_the_tiny_set_is_every_benchmark_of_the_embedded_world():
    alone = {option for group, option in OPTIONS if group == "benchmark" and option.startswith("tiny_")}
    assert set(run_of("benchmark=tiny").benchmark) == alone


def test_a_command_without_overrides_is_the_embedded_default():
    run = run_of()
    assert (run.job.name, run.model.name, run.recipe, run.seed) == ("finetune", "tiny", "paper", 0)
    assert select_layers(run) == (0, 4, 8, 12, 18, 22, 26, 30)
    assert run.data_fraction.fraction == 1.0


# ---- layers

PRINTED = {  # section 4.1: eight layers of Bunny-Llama-3-8B-V each
    "image_attention_paper": (1, 2, 3, 4, 5, 27, 29, 31),
    "parameter_change_paper": (0, 2, 9, 12, 23, 24, 25, 26),
    "block_influence_paper": (12, 15, 18, 25, 27, 29, 30, 31),
    "multimodal_block_influence_paper": (0, 1, 2, 3, 4, 5, 9, 31),
    "angular_distance_paper": (0, 1, 2, 3, 5, 6, 7, 8),
    "sparse_uniform": (0, 4, 8, 12, 18, 22, 26, 30),
    "sparse_uniform_released": (1, 5, 9, 13, 19, 23, 27, 31),
    "consecutive_lower": tuple(range(8)),
    "consecutive_lower_middle": tuple(range(8, 16)),
    "consecutive_upper_middle": tuple(range(16, 24)),
    "consecutive_top": tuple(range(24, 32)),
    "hybrid_top_lower": (0, 1, 2, 3, 28, 29, 30, 31),
    "all": tuple(range(32)),
}


@pytest.mark.parametrize("selector", PRINTED)
def test_a_selector_of_the_paper_gives_the_layers_it_prints(selector: str):
    assert select_layers(run_of(f"selector={selector}", "benchmark=tiny_gqa")) == PRINTED[selector]  # 32 layers


@pytest.mark.parametrize(
    ("overrides", "number"),
    [
        (("model=llava-1.5-13b", "layer_count=25pct"), 10),
        (("model=llava-1.5-7b", "layer_count=25pct"), 8),
        (("model=llava-1.5-13b", "layer_count=10_layers"), 10),
        (("model=llava-1.5-7b", "layer_count=32_layers"), 32),
        (("model=llava-1.5-7b", "layer_count=25pct", "layer_count.fraction=0.001"), 1),
        (("model=llava-1.5-7b", "layer_count=25pct", "layer_count.fraction=0.3"), 10),
        (("model=llava-1.5-7b", "selector.layers=[31,2,3]"), 3),
    ],
)
def test_layers_are_counted_by_number_by_fraction_or_by_an_explicit_list(overrides: tuple[str, ...], number: int):
    run = run_of("benchmark=gqa", *overrides)
    assert num_selected(run) == len(select_layers(run)) == number


@pytest.mark.parametrize("selector", ["random", "consecutive_top", "all"])
def test_an_explicit_list_wins_over_the_selector(selector: str):
    assert select_layers(run_of("benchmark=gqa", f"selector={selector}", "selector.layers=[31,2,3]")) == (2, 3, 31)


def test_random_layers_follow_the_seed_of_the_run_unless_they_have_their_own():
    drawn = {seed: select_layers(run_of("benchmark=gqa", "selector=random", f"seed={seed}")) for seed in range(3)}
    assert len(set(drawn.values())) == 3
    assert select_layers(run_of("benchmark=gqa", "selector=random", "seed=2", "selector.seed=1")) == drawn[1]


# ---- the paper's recipe


@pytest.mark.parametrize("model", REAL_MODELS)
def test_the_papers_recipe_has_the_authors_numbers(model: str):
    run = run_of(f"model={model}", "benchmark=gqa", "recipe=paper")
    assert (run.lora.r, run.lora.alpha, run.lora.dropout) == (128, 256, 0.05)
    assert (run.train.lr, run.train.projector_lr, run.train.weight_decay) == (2e-4, 2e-5, 0.0)
    assert (run.train.global_batch_size, run.train.micro_batch_size, run.train.epochs) == (128, 8, 1)
    assert (run.train.warmup_ratio, run.train.max_grad_norm) == (0.03, 0.0)
    assert (run.train.loss_average, run.train.gradient_checkpointing) == ("micro_batch", True)
    assert (run.train.dtype, run.engine.name, run.engine.zero_stage) == ("bfloat16", "deepspeed", 3)


@pytest.mark.parametrize("model", REAL_MODELS)
def test_the_fast_recipe_learns_as_the_papers_does(model: str):
    """What decides the numbers is equal; what decides the cost may differ."""
    paper, fast = (run_of(f"model={model}", "benchmark=gqa", f"recipe={recipe}") for recipe in ("paper", "fast"))
    assert (fast.recipe, fast.lora) == ("fast", paper.lora)
    for key in ("epochs", "max_steps", "global_batch_size", "lr", "projector_lr", "weight_decay", "warmup_ratio"):
        assert getattr(fast.train, key) == getattr(paper.train, key), key


# ---- freezing

RUNS = {
    "default": (),
    "explicit layers": ("benchmark=tiny_gqa", "selector.layers=[3,1]", "train.max_steps=7"),
    "importance list": (
        "benchmark=tiny_gqa",
        "selector=image_attention_paper",
    ),
    "fraction": ("benchmark=tiny_gqa", "layer_count=25pct", "data_fraction=10pct", "seed=3"),
    "real model": ("model=llava-1.5-7b", "benchmark=all", "instructions.path='a/ü.json'", "recipe=fast"),
    "evaluate": ("job=evaluate", "job.run=somewhere", "eval.limit=5", "wandb.tags=[a,b]"),
}


@pytest.mark.parametrize("overrides", RUNS.values(), ids=RUNS)
def test_a_frozen_run_thaws_to_itself(tmp_path: Path, overrides: tuple[str, ...]):
    run = run_of(*overrides)
    (tmp_path / "config.yaml").write_text(freeze(run), encoding="utf-8")
    assert load_frozen(tmp_path / "config.yaml") == run


@settings(deadline=None, max_examples=15)
@given(text=st.text(), lr=st.floats(0, 1), seed=st.integers(-(2**31), 2**31))
def test_any_text_and_number_survives_freezing(text: str, lr: float, seed: int):
    run = given_keys()
    run.instructions.path, run.model.image_token, run.train.lr, run.seed = text, text, lr, seed
    if "$" not in text:  # OmegaConf reads it as a reference
        assert thaw(freeze(run)) == run


def test_a_frozen_run_holds_values_only():
    assert "${" not in freeze(run_of())


def test_a_frozen_file_with_a_key_of_no_meaning_is_refused(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(default() + "sed: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.yaml: not a frozen run: Key 'sed' not in 'RunConfig'"):
        load_frozen(path)


# ---- what may be named


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("metric", "gqa_match", "vrx.metrics.per_answer.gqa_match"),
        ("metric", "gqa_match_qwen", "vrx.metrics.other_toolkits.gqa_match_qwen"),
        ("family", "short_answer", "vrx.evaluation.families.short_answer"),
        ("reader", "gqa", "vrx.evaluation.readers.gqa.rows"),
        ("rule", "most_important", "vrx.selectors.rules.most_important"),
        ("world", "tiny", "vrx.tiny.data.build"),
        ("job", "finetune", "vrx.jobs.finetune.driver.finetune"),
    ],
)
def test_a_short_name_stands_for_one_function(kind: str, name: str, path: str):
    function = resolve_name(kind, name)
    assert f"{function.__module__}.{function.__name__}" == path
    assert name in known_names(kind)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "eval",
        "",
        "_options",
        "vrx.metrics.gqa_match",
        "per_answer",  # a module of the package
        "mean",  # an aggregate, no metric
        "Answer",
        "../gqa",
        "nothing",
    ],
)
@pytest.mark.parametrize("kind", ["metric", "family", "reader", "rule", "world", "job"])
def test_no_other_name_is_accepted(kind: str, name: str):
    with pytest.raises(UserError, match=f"^the.key={re.escape(name)}: (not a short name|no such {kind}); .*valid: "):
        resolve_name(kind, name, key="the.key")


KEYS = ["selector.rule", "world.name", "benchmark.tiny_gqa.family", "benchmark.tiny_gqa.metric"]


@pytest.mark.parametrize("key", KEYS)
def test_a_run_that_names_foreign_code_is_refused_by_key(key: str):
    with pytest.raises(UserError, match=f"^{key}=os.system: not a short name; valid: "):
        given_keys(f"{key}=os.system")


# ---- what check() refuses

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
    (("selector.start=top",), "selector.start=top: sparse_uniform: got an unexpected keyword argument 'start'"),
    (
        ("selector.rule=random",),
        "selector.rule=random: random: missing",
    ),
    (("selector.rule=mean",), "selector.rule=mean: no such rule"),
    (("data_fraction.fraction=0",), "data_fraction=0: must be above 0"),
    (("data_fraction.fraction=1.1",), "data_fraction=1.1: must be above 0 and at most 1"),
    (("train.global_batch_size=33",), "train.global_batch_size=33: valid is a multiple of"),
    (("runtime.cpu_processes=3",), "train.global_batch_size=32: valid is a multiple of"),
    (("runtime.num_gpus=3",), "train.global_batch_size=32: valid is a multiple of"),
    (("runtime.cpu_processes=0",), "runtime.cpu_processes=0: must be >= 1"),
    (("runtime.num_gpus=-1",), "runtime.num_gpus=-1: must be >= 0"),
    (("runtime.num_workers=-1",), "runtime.num_workers=-1: must be >= 0"),
    (("runtime.checkpoint_every=0",), "runtime.checkpoint_every=0: must be >= 1"),
    (("train.micro_batch_size=0",), "train.micro_batch_size=0: must be >= 1"),
    (("train.max_steps=0",), "train.max_steps=0: must be >= 1"),
    (("train.epochs=0",), "train.epochs=0: must be >= 1"),
    (("train.lr=-1",), "train.lr=-1.0: must be >= 0"),
    (("train.lr=nan",), "train.lr=nan: must be >= 0"),
    (("train.warmup_ratio=1.1",), "train.warmup_ratio=1.1: must be between 0 and 1"),
    (("train.dtype=float16",), "train.dtype=float16: valid are float32, bfloat16"),
    (("train.loss_average=sum",), "train.loss_average=sum: valid are micro_batch, token"),
    (("lora.r=0",), "lora.r=0: must be >= 1"),
    (("lora.dropout=1",), "lora.dropout=1.0: must be between 0 and 0.999"),
    (("eval.batch_size=0",), "eval.batch_size=0: must be >= 1"),
    (("eval.limit=0",), "eval.limit=0: must be >= 1"),
    (("engine.name=fsdp",), "engine.name=fsdp: valid are deepspeed, torch"),
    (("engine.zero_stage=4",), "engine.zero_stage=4: valid are 0, 1, 2, 3"),
    (("engine.name=torch", "runtime.cpu_processes=2", "train.micro_batch_size=16"), "engine.name=torch: runs in one"),
    (("instructions.on_bad_image=ignore",), "instructions.on_bad_image=ignore: valid are error, skip, replace"),
    (("model.image_processor=vit",), "model.image_processor=vit: valid are clip, siglip"),
    (("model.image_aspect_ratio=crop",), "model.image_aspect_ratio=crop: valid are pad, square"),
    (("wandb.mode=loud",), "wandb.mode=loud: valid are auto, online, offline, disabled"),
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


def test_checking_changes_nothing():
    run, again = given_keys(), given_keys()
    validate(run)
    assert run == again
