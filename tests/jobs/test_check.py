"""`vrx check` reports every problem with its remedy, and estimates the cost of the runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from vrx.config.errors import UserError
from vrx.data.images.checks import image_errors
from vrx.data.instructions import instruction_dataset
from vrx.evaluation.evaluate_run import write_record
from vrx.jobs.check import preflight
from vrx.jobs.check.driver import check, together
from vrx.jobs.check.findings import Finding
from vrx.runs import lookup
from vrx.runs.layer_selection import select_layers
from vrx.runs.train_summary import TrainSummary


def failures(findings: Iterable[Finding]) -> list[str]:
    return [f"{finding.name}: {finding.message}" for finding in findings if finding.bad]


@pytest.fixture
def data(make_run, world, tmp_path):
    """A run of the tiny world with its own copy of the images, and the path of an image that it uses."""
    shutil.copytree(world / "data" / "tiny" / "images", tmp_path / "images")
    run = make_run("job=check", f"instructions.image_folder={tmp_path}/images")
    run.runtime.output_root = str(tmp_path / "outputs")
    records = json.loads(Path(run.instructions.path).read_text())
    return run, tmp_path / "images" / next(record["image"] for record in records if record.get("image"))


def test_intact_data_are_counted(data):
    run, _ = data
    findings, table = preflight.data(run)
    assert failures(findings) == [] and table is not None and table.is_dir()
    text = "\n".join(map(str, findings))
    assert "conversations" in text and "sha256" in text and "images/train: " in text


@pytest.mark.parametrize("damage", ["missing", "no image", "truncated"])
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_bad_images_are_listed_and_fail_the_check_unless_the_run_skips_them(data, damage, policy):
    run, image = data
    run.instructions.on_bad_image, run.check.decode = policy, damage == "truncated"
    content = image.read_bytes()
    image.unlink()
    if damage != "missing":
        image.write_bytes(b"text" if damage == "no image" else content[:60])
    findings, _ = preflight.data(run)
    assert any(str(image) in finding.message for finding in findings)
    assert bool(failures(findings)) == (policy == "error")
    assert not [finding for finding in findings if str(image) in str(finding) and str(finding).startswith("ok")]
    assert str(image) in (Path(run.runtime.output_root) / "check" / "bad_images.txt").read_text()


def test_a_truncated_image_passes_unless_images_are_decoded(data):
    run, image = data
    image.write_bytes(image.read_bytes()[:60])
    assert failures(preflight.data(run)[0]) == []


def test_pictures_whose_grey_levels_are_scaled_are_noted(data):
    run, image = data
    Image.new("I;16", (48, 48)).save(image, "PNG")
    notes = [str(finding) for finding in preflight.data(run)[0] if finding.note]
    assert notes == [f"note images: 1 with 16-bit grey levels, which are scaled to 8 bits; the first: {image}"]


def test_image_errors_keep_the_order_of_the_files(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(50)]
    assert [number for number, _ in image_errors(paths)] == list(range(50))


def test_all_failures_are_printed_before_the_check_ends(make_run, capsys, tmp_path):
    run = make_run("job=check", "instructions.path=nowhere.json", "benchmark=[tiny_gqa,tdiuc]")
    run.world, run.model.projector, run.runtime.output_root = None, "nobody/nothing", str(tmp_path)
    with pytest.raises(UserError, match=r"^3 of \d+ checks failed \(lines marked BAD\)$"):
        check(run)
    output = capsys.readouterr().out
    assert "BAD  model.projector: nobody/nothing is not on this machine; run: hf download nobody/nothing" in output
    assert "BAD  instructions: path=nowhere.json: no such file" in output
    assert "BAD  benchmark.tdiuc: path=null" in output
    assert "ok   benchmark.tiny_gqa: 6 questions" in output


def test_a_bug_is_no_finding(make_run, monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(instruction_dataset, "data_digest", fail)
    with pytest.raises(ValueError, match="operands"):
        preflight.data(make_run("job=check"))
    monkeypatch.setattr(preflight.benchmarks, "samples", fail)
    with pytest.raises(ValueError, match="operands"):
        list(preflight.questions(make_run("job=check")))


def test_distinct_runs_of_a_sweep_are_listed_once_and_summed(make_run, capsys):
    runs = [
        make_run("job=check", f"layer_count={count}", f"selector={name}")
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


def test_hours_of_similar_finished_runs_are_used(make_run, capsys, tmp_path, world):
    shutil.copytree(world / "data", tmp_path / "data")
    options = (f"runtime.output_root={tmp_path}", "layer_count=4_layers")
    check(make_run("job=check", *options))
    other = make_run(f"runtime.output_root={tmp_path}", "layer_count=8_layers")
    digest = instruction_dataset.data_digest(other.instructions)
    folder, identity = lookup.locate_finetune(other, select_layers(other), digest)
    write_record(folder, other.model, identity, identity["layers"], {}, train=TrainSummary(seconds=7200.0))
    capsys.readouterr()
    check(make_run("job=check", *options))
    assert "2 GPU-hours (measured on similar runs)" in capsys.readouterr().out


def test_exit_status_is_0_for_a_good_run_and_2_for_a_bad_sweep(vrx, tmp_path):
    good = vrx("job=check")
    assert good.returncode == 0, good.stderr
    assert "147,584 trainable" in good.stdout
    bad = vrx("job=check", "sweep=table2", "model=tiny", "layer_count=8_layers,4_layers", "model.projector=no/where")
    assert bad.returncode == 2
    assert bad.stdout.count("\nrun  tiny/sparse_uniform-") == 2
    assert bad.stdout.count("BAD  model.projector: no/where is not on this machine; run: hf download no/where") == 1
    (line,) = [line for line in bad.stderr.splitlines() if line.startswith("vrx:")]
    assert "checks failed" in line
    assert not list(tmp_path.rglob("record.json"))
