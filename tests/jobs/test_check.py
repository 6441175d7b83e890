"""`vrx job=check`: what is missing or broken is named with the way to it, and costs follow from shapes alone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.composing import composed
from support.official import FAMILIES, GOLDEN, model_config

from vrx.config.paths import CONF, PACKAGE
from vrx.config.schema import ModelConfig
from vrx.data.image_checks import image_errors
from vrx.jobs.check import model_files, preflight
from vrx.jobs.check.driver import check, together
from vrx.jobs.check.model_files import Finding
from vrx.models import loading
from vrx.models.architecture import official, parameter_counts
from vrx.models.lora import apply_lora, trainable_parameters
from vrx.training import cost_model

WEIGHTS = PACKAGE / "tiny" / "weights"
OFFICIAL = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem != "tiny")
TRAINABLE = [  # LoRA of rank 128 and the projector; counted from the published configurations
    ("llava-1.5-7b", 8, 100_933_632),
    ("llava-1.5-7b", 32, 340_795_392),
    ("llava-1.5-13b", 9, 144_123_904),
    ("llava-1.5-13b", 40, 532_162_560),
    ("bunny-llama3-8b", 8, 105_390_080),
    ("bunny-llama3-8b", 32, 357_048_320),
    ("bunny-phi3-mini-4b", 8, 63_313_920),
    ("bunny-phi3-mini-4b", 32, 214_308_864),
]


def bad(findings: list[Finding]) -> list[str]:
    return [f"{finding.name}: {finding.told}" for finding in findings if finding.bad]


# ---- shapes and costs


@pytest.mark.parametrize(("name", "num_layers", "expected"), TRAINABLE)
def test_trainable_parameters_of_the_papers_models(name, num_layers, expected):
    shape = parameter_counts(composed([f"model={name}"]).model)
    assert shape is not None and shape.trainable_parameters(num_layers, 128) == expected


@pytest.mark.parametrize("r", [4, 16])
def test_the_shape_of_a_model_at_hand_counts_what_training_counts(make_run, r):
    run = make_run(f"lora.r={r}")
    shape = parameter_counts(run.model)
    tuned = apply_lora(loading.load(run.model), [0, 5, 31], run.lora)
    counted = sum(parameter.numel() for parameter in trainable_parameters(tuned).values())
    assert shape is not None and shape.trainable_parameters(3, r) == counted


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_published_part_has_a_shape_and_its_data_a_source(name):
    run = composed([f"model={name}"])
    shape = parameter_counts(run.model)
    assert shape is not None and shape.backbone.num_layers == run.model.num_layers
    drops_class = run.model.vision_feature_select_strategy == "default"
    assert shape.tower.num_patches == run.model.num_image_tokens, drops_class
    assert run.model.template in official()["instructions"]


def test_a_local_configuration_counts_before_the_published_one(make_run, tmp_path):
    run = make_run()
    told = json.loads((WEIGHTS / "backbone" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**told, "num_hidden_layers": 7}))
    run.model.backbone = str(tmp_path)
    shape = parameter_counts(run.model)
    assert shape is not None and shape.backbone.num_layers == 7
    run.model.backbone = "nobody/nothing"
    assert parameter_counts(run.model) is None


def test_costs_grow_with_layers_length_and_recomputation(make_run):
    run = composed(["model=llava-1.5-7b"])
    plain = composed(["model=llava-1.5-7b", "train.gradient_checkpointing=false"])
    shape = parameter_counts(run.model)
    assert shape is not None
    short, long = (cost_model.Lengths(size, int(size), 1.0) for size in (800.0, 1600.0))

    def cost(of, layers, lengths):
        return (
            cost_model.sample_flops(shape, layers, lengths, of),
            cost_model.memory_gigabytes(shape, layers, lengths, of, 8),
        )

    assert all(few < many for few, many in zip(cost(run, 8, short), cost(run, 32, short), strict=True))
    assert all(few < many for few, many in zip(cost(run, 8, short), cost(run, 8, long), strict=True))
    assert cost(plain, 8, short)[0] < cost(run, 8, short)[0] and cost(plain, 8, short)[1] > cost(run, 8, short)[1]
    saved = 1 - cost(run, 8, short)[0] / cost(run, 32, short)[0]
    assert saved == pytest.approx(0.045, abs=0.01)  # by operations alone a quarter of the layers saves this much


def test_hours_are_known_for_known_gpus_only():
    assert cost_model.gpu_hours(3600 * 312e12, "NVIDIA A100-SXM4-80GB", 0.5) == 2.0
    assert cost_model.gpu_hours(1.0, "Abacus", 0.5) is None


def test_lengths_are_cut_and_padded_as_in_micro_batches():
    run = composed(["model=llava-1.5-7b", "train.micro_batch_size=2"])
    found = cost_model.lengths_in_tokens(np.array([10, 10, -10, 100_000]), run)
    assert found.longest == run.model.max_length and found.with_image == 0.75
    assert found.padded <= run.model.max_length


# ---- what is missing or broken


def test_a_whole_model_has_nothing_bad(make_run):
    assert bad(list(model_files.weights(make_run().model))) == []


@pytest.mark.parametrize(
    ("part", "file", "why"),
    [
        ("backbone", "model.safetensors", "holds no model.safetensors or"),
        ("backbone", "config.json", "holds no config.json"),
        ("vision_tower", "preprocessor_config.json", "holds no preprocessor_config.json"),
        ("projector", "projector.safetensors", "holds no projector.safetensors or mm_projector.bin"),
    ],
)
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_a_part_that_is_incomplete_is_named_with_its_file(make_run, tmp_path, part, file, why, how):
    model = make_run().model
    shutil.copytree(WEIGHTS / part, tmp_path / part)
    setattr(model, part, str(tmp_path / part))
    assert bad(list(model_files.weights(model))) == []
    content = (tmp_path / part / file).read_bytes()
    (tmp_path / part / file).unlink()
    if how == "cut":
        (tmp_path / part / file).write_bytes(content[: len(content) // 2])
        why = f"{file} is cut short"
    (told,) = bad(list(model_files.weights(model)))
    assert told.startswith(f"model.{part}: ") and why in told


def test_a_missing_shard_is_named(make_run, tmp_path):
    model = make_run().model
    shutil.copytree(WEIGHTS / "backbone", tmp_path / "backbone")
    (tmp_path / "backbone" / "model.safetensors").rename(tmp_path / "backbone" / "one.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "backbone" / "model.safetensors.index.json").write_text(json.dumps(index))
    model.backbone = str(tmp_path / "backbone")
    (told,) = bad(list(model_files.weights(model)))
    assert "1 of 2 shards missing, the first two.safetensors" in told


def lora_output(tmp_path: Path, monkeypatch) -> ModelConfig:
    """LLaVA's LoRA output and its parts in a folder where they may be harmed."""
    monkeypatch.chdir(tmp_path)
    for name in (FAMILIES["llava_official"][key] for key in ("adapter", "backbone", "vision_tower")):
        shutil.copytree(GOLDEN / "llava_official" / name, tmp_path / name, copy_function=shutil.copyfile)
    told = model_config("llava_official", None)
    parts = {key: Path(getattr(told, key)).name for key in ("backbone", "vision_tower")}
    return dataclasses.replace(told, **parts, lvlm=FAMILIES["llava_official"]["adapter"])


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("llava-tiny-v1.5-lora/non_lora_trainables.bin", "model.lvlm: "),
        ("llava-tiny-v1.5-lora/adapter_model.safetensors", "model.lvlm: "),
        ("vicuna-tiny/pytorch_model.bin", "model.backbone: "),
        ("vicuna-tiny/tokenizer.model", "tokenizer: "),
    ],
)
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_an_adapter_wants_its_projector_and_its_backbone(tmp_path, monkeypatch, file, why, how):
    model = lora_output(tmp_path, monkeypatch)
    assert bad(list(model_files.weights(model))) == []
    content = Path(file).read_bytes()
    Path(file).unlink()
    if how == "cut":
        Path(file).write_bytes(content[: 0 if file.endswith(".model") else len(content) - 100])
    found = bad(list(model_files.weights(model)))
    assert found and found[0].startswith(why) and Path(file).name in found[0]


def test_parts_on_the_hub_are_told_with_the_command_that_gets_them(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    told = bad(list(model_files.weights(composed(["model=llava-1.5-7b"]).model)))
    assert len(told) == 4
    assert all("is not on this machine; run: hf download " in line for line in told)


@pytest.fixture
def data(make_run, world, tmp_path):
    """A run of the small world whose images may be harmed, and an image that it uses."""
    shutil.copytree(world / "data" / "tiny" / "images", tmp_path / "images")
    run = make_run(f"instructions.image_folder={tmp_path}/images")
    run.runtime.output_root = str(tmp_path / "outputs")
    records = json.loads(Path(run.instructions.path).read_text())
    return run, tmp_path / "images" / next(record["image"] for record in records if record.get("image"))


def test_good_data_are_counted(data):
    run, _ = data
    found, table = preflight.data(run)
    assert bad(found) == [] and table is not None and table.is_dir()
    told = "\n".join(map(str, found))
    assert "conversations" in told and "sha256" in told and "images/train: " in told


@pytest.mark.parametrize("how", ["missing", "no image", "cut"])
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_bad_images_are_listed_and_stop_a_run_that_cannot_do_without(data, how, policy):
    run, image = data
    run.instructions.on_bad_image, run.check.decode = policy, how == "cut"
    content = image.read_bytes()
    image.unlink()
    if how != "missing":
        image.write_bytes(b"text" if how == "no image" else content[:60])
    found, _ = preflight.data(run)
    assert any(str(image) in finding.told for finding in found)
    assert bool(bad(found)) == (policy == "error")
    assert str(image) in (Path(run.runtime.output_root) / "check" / "bad_images.txt").read_text()


def test_a_cut_image_passes_the_look_at_its_header(data):
    run, image = data
    image.write_bytes(image.read_bytes()[:60])
    assert bad(preflight.data(run)[0]) == []


def test_complaints_come_in_the_order_of_the_files(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(50)]
    assert [number for number, _ in image_errors(paths)] == list(range(50))


def test_all_that_is_bad_is_told_before_the_check_ends(make_run, capsys, tmp_path):
    run = make_run("instructions.path=nowhere.json", "benchmark=[tiny_gqa,gqa]")
    run.world, run.model.projector, run.runtime.output_root = None, "nobody/nothing", str(tmp_path)
    with pytest.raises(ValueError, match=r"^3 of \d+ things looked at are bad"):
        check(run)
    told = capsys.readouterr().out
    assert "BAD  model.projector: nobody/nothing is not on this machine; run: hf download nobody/nothing" in told
    assert "BAD  instructions: path=nowhere.json: no such file" in told
    assert "BAD  benchmark.gqa: path=null" in told
    assert "ok   benchmark.tiny_gqa: 6 questions" in told


def test_the_runs_of_a_sweep_are_told_once_each_and_summed(make_run, capsys):
    runs = [
        make_run(f"layer_count={count}", f"selector={name}")
        for count, name in [
            ("8_layers", "sparse_uniform"),
            ("4_layers", "sparse_uniform"),
            ("8_layers", "sparse_uniform"),
        ]
    ]
    together(runs)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("run ")]) == 2
    assert len([line for line in lines if "model.backbone" in line]) == 1
    assert any(line.startswith("total: 2 runs, 2 to train") for line in lines)


def test_like_runs_that_are_finished_give_the_hours(make_run, capsys, tmp_path, world):
    shutil.copytree(world / "data", tmp_path / "data")
    options = (f"runtime.output_root={tmp_path}", "layer_count=4_layers")
    check(make_run(*options))
    from vrx.data import instruction_dataset
    from vrx.runs import files, lookup

    other = make_run(f"runtime.output_root={tmp_path}", "layer_count=8_layers")
    identity = lookup.run_identity(other, instruction_dataset.data_digest(other.instructions))
    folder = lookup.run_directory(other, identity, label="other")
    record = {
        "run_id": "x",
        "identity": identity,
        "layers": identity["layers"],
        "scores": {},
        "train": {"seconds": 7200.0},
    }
    files.write_json(folder / "record.json", record)
    capsys.readouterr()
    check(make_run(*options))
    assert "2 GPU-hours as like runs took" in capsys.readouterr().out


def test_the_command_ends_with_0_where_all_is_well_and_with_2_elsewhere(vrx, tmp_path):
    good = vrx("job=check")
    assert good.returncode == 0, good.stderr
    assert "180,352 trainable" in good.stdout
    worse = vrx("job=check", "sweep=table2", "model=tiny", "layer_count=8_layers,4_layers", "model.projector=no/where")
    assert worse.returncode == 2
    assert worse.stdout.count("\nrun  tiny/sparse_uniform-") == 2
    assert worse.stdout.count("BAD  model.projector: no/where is not on this machine; run: hf download no/where") == 1
    (line,) = [line for line in worse.stderr.splitlines() if line.startswith("vrx:")]
    assert "things looked at are bad" in line
    assert not list(tmp_path.rglob("record.json"))


def test_the_job_is_in_the_configuration():
    told = yaml.safe_load((CONF / "job" / "check.yaml").read_text())
    assert told == {"name": "check"}
