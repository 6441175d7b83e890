"""`vrx export`: a folder that transformers reads without vrx and answers with token by token as vrx does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from jobs.test_revert import text_logits
from safetensors import safe_open
from support import plain_transformers
from support.official import FAMILIES, GOLDEN, model_config
from transformers import AutoModelForImageTextToText

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.schema import ModelConfig, RunConfig
from vrx.data.batch import collate
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import Generator
from vrx.jobs.export import driver, worker
from vrx.metrics.answer import Answer
from vrx.models import from_run, loading
from vrx.models.export import export_model
from vrx.models.lvlm import forward_inputs
from vrx.runs import files, surgery_manifest
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import LayerSurgery

Make = Callable[..., RunConfig]
TEXTS = ["What is it?", " \nWhat colour is the cup?", "A. red\nB. blue\nAnswer with the letter.", "Ünï 😀?"]


@pytest.fixture
def export(make_run: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Export with these options; the worker runs in this process."""

    def in_this_process(stage: str, folder: Path, _) -> None:
        worker.export(load_frozen(folder / ".command.yaml"), folder)

    def run(*overrides: str, name: str = "exported") -> Path:
        monkeypatch.setattr(driver, "launch", in_this_process)
        driver.export(make_run("job=export", f"export.folder={tmp_path / name}", *overrides))
        return tmp_path / name

    return run


def altered(tuned: Path, name: str, **layers: tuple[int, ...]) -> Path:
    """A finished run whose layers were reverted or pruned and whose weights were not saved."""
    folder = tuned.with_name(name)
    folder.mkdir(exist_ok=True)
    record = json.loads((tuned / "record.json").read_text())
    record["identity"] |= {key: list(value) for key, value in layers.items()}
    files.write_json(folder / "record.json", record)
    (folder / "config.yaml").write_text((tuned / "config.yaml").read_text())
    surgery_manifest.write_surgery(folder, LayerSurgery(tuned, **layers))
    return folder


@pytest.mark.parametrize(
    "layers", [{}, {"reverted": (0, 4)}, {"pruned": (0, 1, 30)}], ids=["tuned", "reverted", "pruned"]
)
def test_an_exported_run_computes_what_the_run_does(export: Callable[..., Path], tuned: Path, make_run: Make, layers):
    run_dir = altered(tuned, "altered_" + "_".join(layers), **layers) if layers else tuned
    folder = export(f"job.run={run_dir}", "export.shard_gb=0.002")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()
    ours = from_run.load_from_run(make_run().model, run_dir, dtype=torch.float32)
    assert torch.equal(text_logits(model), text_logits(ours))
    card = (folder / "README.md").read_text()
    assert "layers 0, 4, 8, 12, 18, 22, 26, 30" in card and str(tuned.parents[3]) not in card
    assert all(f"Layers {', '.join(map(str, numbers))} " in card for numbers in layers.values())
    assert str(tuned.parents[3]) not in (folder / "config.json").read_text()


def test_an_exported_adapter_needs_nothing_beside_peft(export: Callable[..., Path], tuned: Path, make_run: Make):
    base, folder = export(name="base"), export(f"job.run={tuned}", "export.adapter=true")
    plain = peft.PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), str(folder)).eval()
    ours = from_run.load_from_run(make_run().model, tuned, dtype=torch.float32)
    torch.testing.assert_close(text_logits(plain), text_logits(ours), atol=1e-4, rtol=0)
    projector = plain.base_model.model.model.multi_modal_projector.modules_to_save["default"].linear_1.weight
    assert torch.equal(projector, ours.model.multi_modal_projector.linear_1.weight)


def test_an_exported_folder_is_a_model_of_vrx(export: Callable[..., Path], make_run: Make):
    folder = export()
    plain = loading.load(make_run(f"model.lvlm={folder}", "model.tokenizer=null").model)
    assert torch.equal(text_logits(plain), text_logits(loading.load(make_run().model)))


def test_what_cannot_be_exported_is_refused_in_one_line(
    export: Callable[..., Path], tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "there").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("model: {}")
    pruned = altered(tuned, "cut", pruned=(3,))
    for overrides, message in {
        ("export.folder=" + str(tmp_path / "there"),): r"export\.folder=.*exists already; .*vrx export export\.folder=",
        (f"job.run={tmp_path / 'none'}",): r"job\.run=.*none: holds no record\.json",
        (f"job.run={tmp_path / 'run'}",): r"job\.run=.*run: not finished \(no adapter\); run the command again",
        ("export.adapter=true",): r"export\.adapter=true: nothing was tuned; run: vrx export job\.run=",
        (f"job.run={pruned}", "export.adapter=true"): r"reverted or pruned, .*run: vrx export job\.run=",
        ("model.backbone=nobody/none",): r"model\.backbone=nobody/none: .*hf download nobody/none",
        ("export.push_to_hub=me/model",): r"export\.push_to_hub=me/model: .*run: hf auth login",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            export(*overrides)
        assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("exported*"))


def test_a_shard_holds_no_more_than_it_may(export: Callable[..., Path]):
    folder = export("export.shard_gb=0.001")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for path in folder.glob("model-*.safetensors"):
        with safe_open(path, "pt") as file:
            assert set(file.keys()) == {name for name, shard in index["weight_map"].items() if shard == path.name}
        assert path.stat().st_size < 1.1 * 0.001 * 2**30


def asked(generator: Generator, image: str, question: str) -> dict[str, Any]:
    """What vrx asks and answers, as ids."""
    encoded = generator.encode(Sample(question, Path(image), Answer("q", "", ())))
    inputs = forward_inputs(generator.lvlm, collate([encoded.row], pad_token_id=generator.pad_token_id, side="left"))
    number = plain_transformers.NUM_NEW_TOKENS
    output = generator.lvlm.generate(**inputs, do_sample=False, max_new_tokens=number)
    return {"prompt": encoded.prompt_ids, "answer": output[0, len(encoded.prompt_ids) :].tolist()}


def generators(make_run: Make, tuned: Path) -> dict[str, tuple[ModelConfig, Path | None]]:
    """The models that are exported: a tuned and a cut run, and each official family."""
    tiny = make_run().model
    official = {name: (model_config(name, parts["lvlm"]), None) for name, parts in FAMILIES.items()}
    return {"tuned": (tiny, tuned), "pruned": (tiny, altered(tuned, "cut", pruned=(1, 2))), **official}


@pytest.mark.slow
def test_transformers_alone_gives_the_same_token_ids(make_run: Make, tuned: Path, tmp_path: Path):
    """In a fresh process without vrx; VRX_EXPORT_QUESTIONS=50 asks more questions."""
    number = int(os.environ.get("VRX_EXPORT_QUESTIONS", "6"))
    images = sorted((GOLDEN / "images").iterdir())
    texts = [*TEXTS, *(f"What is number {index}?" for index in range(number))]
    questions = [[str(images[index % len(images)]), texts[index]] for index in range(number)]
    expected, asks = {}, {}
    for name, (config, run_dir) in generators(make_run, tuned).items():
        folder = tmp_path / name
        folder.mkdir()
        export_model(config, run_dir, folder, dtype=torch.float32, shard_bytes=2**22)
        lvlm = from_run.load_from_run(config, run_dir or folder.parent / "none", dtype=torch.float32)
        generator = Generator(lvlm, loading.load_model_tokenizer(config), config)
        expected[name] = [asked(generator, *question) for question in questions]
        asks[str(folder)] = questions
    files.write_json(tmp_path / "questions.json", asks)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, plain_transformers.__file__, tmp_path / "questions.json", tmp_path / "answers.json"],
        env={**environment, "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        check=True,
    )
    for folder, rows in json.loads((tmp_path / "answers.json").read_text()).items():
        assert [{key: row[key] for key in ("prompt", "answer")} for row in rows] == expected[Path(folder).name], folder
        assert all(row["pipeline"] == row["prompt"] + row["answer"] for row in rows)
    assert not RunDir(tuned).pruned.exists()
