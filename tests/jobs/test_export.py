"""`vrx export`: a folder that transformers reads without vrx and answers with token by token as vrx does."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from jobs.test_revert import text_logits
from safetensors import safe_open
from support import asked_elsewhere
from support.official import FAMILIES, GOLDEN, model_config
from transformers import AutoModelForImageTextToText

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.schema import RunConfig
from vrx.jobs.export import driver, worker
from vrx.jobs.export.model_card import model_card
from vrx.models import from_run, loading
from vrx.runs import files, surgery_manifest
from vrx.runs.files import file_digest
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import LayerSurgery
from vrx.runs.train_summary import TrainSummary

Make = Callable[..., RunConfig]


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


def test_names_on_the_model_card_are_text(make_run: Make):
    run = dataclasses.replace(make_run("job=export"), model=dataclasses.replace(make_run().model, name="<b>tiny</b>"))
    card = model_card(run, None, title="<script>")
    assert "&lt;b&gt;tiny&lt;/b&gt; as it was" in card and "# &lt;script&gt;\n" in card and "<b>" not in card


@pytest.mark.parametrize("kind", ["adapter", "model"])
@pytest.mark.parametrize("file", ["adapter_model.safetensors", "projector.safetensors", "adapter_config.json"])
def test_a_damaged_adapter_is_not_exported(
    export: Callable[..., Path], tuned: Path, tmp_path: Path, file: str, kind: str
):
    run_dir = Path(shutil.copytree(tuned, tmp_path / "run"))
    path = run_dir / "adapter" / file
    TrainSummary(result={file: file_digest(path)}).write(run_dir / "train.json")
    path.write_bytes(path.read_bytes()[:-10])
    options = (f"job.run={run_dir}", f"export.adapter={str(kind == 'adapter').lower()}")
    with pytest.raises(UserError, match=rf"{re.escape(file)}: damaged \(not what the training left\)"):
        export(*options)
    (run_dir / "train.json").unlink()  # a run of an earlier version, without digests
    with pytest.raises(UserError, match=re.escape(file)):
        export(*options)


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
        (f"job.run={tmp_path / 'none'}",): r"job\.run=.*none: no such folder",
        (f"job.run={tmp_path / 'run'}",): r"job\.run=.*run: not finished, it has no result yet; run the command again",
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


@pytest.mark.slow
def test_transformers_alone_gives_the_same_token_ids(make_run: Make, tuned: Path, tmp_path: Path):
    """Fifty questions in a fresh process without vrx: a tuned and a pruned run, PEFT alone, each official family."""
    tiny, images = make_run().model, GOLDEN / "images"
    base = asked_elsewhere.export(tiny, None, tmp_path / "base", images)
    exported = asked_elsewhere.export(tiny, tuned, tmp_path / "tuned", images)
    exports = [base, exported, asked_elsewhere.adapter_of(exported, tiny, tuned, base.folder)]
    exports.append(
        asked_elsewhere.export(tiny, altered(tuned, "cut", pruned=(1, 2)), tmp_path / "pruned", images),
    )
    for name, parts in FAMILIES.items():
        exports.append(asked_elsewhere.export(model_config(name, parts["lvlm"]), None, tmp_path / name, images))
    asked_elsewhere.require_same_elsewhere(exports, images, tmp_path)
    assert not RunDir(tuned).pruned.exists()
