"""Every option of `conf/` composes into a checked run, with the layers and the recipe of the paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from support.config_runs import composed, run_of

from vrx.config.command_line import read_arguments
from vrx.config.errors import UserError
from vrx.config.layers import needs_scores, num_selected
from vrx.config.number_options import expand_number
from vrx.config.paths import CONF
from vrx.runs.layer_selection import select_layers

GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
REAL_MODELS = ["llava-1.5-7b", "llava-1.5-13b", "bunny-llama3-8b", "bunny-phi3-mini-4b"]


def matching(group: str, option: str) -> list[str]:
    """What an option needs beside itself: a decoder that deep, benchmarks that its model has data for."""
    if group == "benchmark":
        return []
    if group == "selector" and "rule: most_important" in (CONF / group / f"{option}.yaml").read_text(encoding="utf-8"):
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
    if not needs_scores(run):
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


@pytest.mark.parametrize("name", [name for name in PRINTED if name.endswith("_paper")])
def test_a_list_of_the_paper_is_for_models_as_deep_as_the_papers(name: str):
    assert select_layers(run_of("model=bunny-phi3-mini-4b", "benchmark=gqa", f"selector={name}")) == PRINTED[name]
    expected = (
        f"selector={name}: its list is for models of 32 decoder layers, model=llava-1.5-13b has 40; "
        f"valid is selector={name.removesuffix('_paper')}"
    )
    with pytest.raises(UserError, match=f"^{expected}$"):
        run_of("model=llava-1.5-13b", "benchmark=gqa", f"selector={name}")


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


def test_fractions_of_more_than_six_digits_are_options_of_their_own():
    override = expand_number("data_fraction=0.1234567,0.12345671,0.1,33.3pct,12.345678pct")
    names = override.removeprefix("data_fraction=").split(",")
    assert len(set(names)) == len(names) and names[2:4] == ["10pct", "33.3pct"]
    options = ConfigStore.instance().repo["data_fraction"]
    fractions = [options[f"{name}.yaml"].node.fraction for name in names if name != "10pct"]
    assert fractions == [0.1234567, 0.12345671, 33.3 / 100, 12.345678 / 100]


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


@pytest.mark.parametrize(
    "text", ["What is it?", "red, blue or 'green'?", r"a\'b\\", "back\\", 'say "yes"', "${seed} {a: [1]} = $x %", "a=b"]
)
def test_a_question_is_taken_as_it_is_typed(text: str):
    assert composed(*read_arguments(["ask", f"question={text}"])).question == text
