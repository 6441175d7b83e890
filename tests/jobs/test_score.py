"""`vrx score`: the worker's scores equal a slow reference, and a finished score is left alone."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.composing import composed
from support.whole_runs import SMALL

from vrx.config.schema import RunConfig
from vrx.evaluation import calibration
from vrx.evaluation.generation import Generator, prompt_batches
from vrx.jobs.score import driver as job
from vrx.jobs.score import worker
from vrx.launch.devices import peak_resident_bytes
from vrx.models import from_run, loading, probe
from vrx.models.lvlm import decoder_layers
from vrx.models.merged_state_dict import tuned_state
from vrx.runs import files, importance_files
from vrx.selectors import importance

MakeRun = Callable[..., RunConfig]


def worker_scores(run: RunConfig, run_dir: Path, source: Path | None) -> dict[str, Any]:
    """The scores that the worker writes for a source run, or for the base model; computed in this process."""
    run.job.run = str(source) if source else None
    files.write_json(run_dir / "inputs.json", {"made_from": "x"})
    worker.score(run, run_dir)
    return files.read_json(run_dir / "scores.json")["scores"]


def reference_scores(run: RunConfig, source: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Block influence and image attention, sample by sample from full attention maps in fp64.

    Returns the means and the attention of each sample.
    """
    tokenizer = loading.load_model_tokenizer(run.model)
    lvlm = from_run.load_from_run(run.model, source, dtype=torch.float32).double()
    lvlm.set_attn_implementation({"text_config": "eager"})
    token = loading.image_token_id(run.model, tokenizer)
    generator = Generator(lvlm, tokenizer, run.model)
    influence, attention = [], []
    for _, sample in calibration.draw_samples(run):
        (batch,) = prompt_batches(generator, [sample], batch_size=1)
        outputs: list[torch.Tensor] = []
        handle = decoder_layers(lvlm)[-1].register_forward_hook(lambda *hook, outputs=outputs: outputs.append(hook[2]))
        with torch.inference_mode():
            output = lvlm(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                pixel_values=batch.pixels.double(),
                output_attentions=True,
                output_hidden_states=True,
            )
        handle.remove()
        states = [*(state[0] for state in output.hidden_states[:-1]), outputs[0][0]]
        image = batch.input_ids[0] == token
        cosines = [torch.cosine_similarity(a, b, dim=-1).mean() for a, b in itertools.pairwise(states)]
        influence.append(1 - torch.stack(cosines))
        maps = torch.stack([layer[0] for layer in output.attentions])  # (layers, heads, queries, keys)
        attention.append(maps[..., image].sum((1, 2, 3)) / (image.sum() * maps.shape[1]))
    by_sample = torch.stack(attention)
    means = {"block_influence": torch.stack(influence).mean(0), "image_attention": by_sample.mean(0)}
    return means, by_sample


def test_scores_of_a_tuned_lvlm_equal_a_slow_reference(make_run: MakeRun, tuned: Path, tmp_path: Path):
    run = make_run("job=score", "score.samples_per_benchmark=2", "eval.batch_size=3")
    scores = worker_scores(run, tmp_path, tuned)
    assert scores.keys() == {*probe.ACTIVATION_SCORES, *probe.WEIGHT_SCORES}
    means, by_sample = reference_scores(run, tuned)
    for name, expected in means.items():
        assert scores[name] == pytest.approx(expected.tolist(), abs=1e-5), name
    sample_scores = files.read_json(tmp_path / importance_files.SAMPLE_SCORES_NAME)
    torch.testing.assert_close(torch.tensor(sample_scores["scores"]), by_sample.float(), atol=1e-5, rtol=0)
    ids = [sample.answer.id for _, sample in calibration.draw_samples(run)]
    assert [sample["id"] for sample in sample_scores["samples"]] == ids
    layers = files.read_json(tuned / "record.json")["layers"]
    for name in probe.WEIGHT_SCORES:
        assert [layer for layer, score in enumerate(scores[name]) if score > 0] == layers, name


def test_a_base_model_has_no_scores_of_weights(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture):
    run = make_run("job=score", "score.samples_per_benchmark=1", "score.benchmarks=[tiny_gqa]")
    assert worker_scores(run, tmp_path, None).keys() == set(probe.ACTIVATION_SCORES)
    assert "formulas that compare tuned weights with the backbone are left out" in capsys.readouterr().err


def test_weights_from_backbone_and_adapter_equal_those_of_the_merged_lvlm(make_run: MakeRun, tuned: Path):
    model = make_run().model
    state, layers = tuned_state(model, tuned), {}
    assert state is not None
    assert tuned_state(model, tuned.parent) is None
    for name, tensor in (
        from_run.load_tuned(model, tuned, dtype=torch.float32).model.language_model.state_dict().items()
    ):
        layers[f"model.{name}"] = tensor
    assert layers.keys() <= set(state)
    for name, expected in layers.items():
        torch.testing.assert_close(state[name].float(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_weights_scaled_by_a_tenth_change_by_a_tenth_and_by_no_angle(factor: float):
    torch.manual_seed(0)
    backbone = torch.randn(40, 30)
    changes = [importance.tensor_delta(factor * backbone, backbone)]
    assert importance.parameter_change(changes) == pytest.approx(0.1, abs=1e-6)
    assert importance.angular_distance_weights(changes) == pytest.approx(0, abs=1e-3)


def test_scores_of_other_samples_are_named_before_they_are_replaced(tmp_path: Path):
    samples = {"benchmarks": {"a": 2, "b": 1}, "num_samples": 3, "digest": "0"}
    inputs = {"version": importance_files.VERSION, "made_from": "x", "model": {"model": {}, "weights": {}}}
    inputs |= {"scored": None, "calibration": samples}
    assert job.replaced_scores(tmp_path, inputs) is None
    files.write_json(tmp_path / "scores.json", {**inputs, "scores": {"block_influence": [1.0]}})
    assert job.replaced_scores(tmp_path, inputs) is None
    message = job.replaced_scores(tmp_path, {**inputs, "calibration": {**samples, "digest": "1"}})
    assert message is not None
    assert message.endswith("scores.json: replaces the scores x, of other calibration samples: 2 of a, 1 of b")


def peak(num_samples: int, root: str) -> None:
    """Print the most memory that scoring so many samples took, in a process of its own."""
    run = composed([*SMALL, f"runtime.output_root={root}", f"world.folder={root}/data/tiny", "job=score"])
    generator = Generator(loading.load(run.model), loading.load_model_tokenizer(run.model), run.model)
    drawn = [sample for _, sample in calibration.draw_samples(run)][:8]
    probe.mean_scores(generator.lvlm, prompt_batches(generator, drawn * (num_samples // 8), batch_size=8))
    print(peak_resident_bytes())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(world: Path):
    def measured_peak(number: int) -> int:
        code = f"from jobs.test_score import peak; peak({number}, {str(world)!r})"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=900
        )
        return int(result.stdout.split()[-1])

    assert measured_peak(800) <= 1.05 * measured_peak(8)


@pytest.mark.slow
def test_the_job_scores_a_finished_run_once(
    make_run: MakeRun, tuned: Path, world: Path, vrx: Callable[..., subprocess.CompletedProcess]
):
    command = [f"runtime.output_root={world}", "job=score", f"job.run={tuned}", "score.samples_per_benchmark=2"]
    first = vrx(*command)
    assert first.returncode == 0, first.stderr
    path = importance_files.scores_file(make_run(), tuned.name)
    content = files.read_json(path)
    assert content["scored"]["run_id"] == tuned.name.rpartition("_")[2]
    assert content["calibration"]["num_samples"] == 8
    assert len(first.stdout.splitlines()) == 2 + len(content["scores"])
    before = path.stat().st_mtime_ns
    assert "nothing to do" in vrx(*command).stderr
    assert path.stat().st_mtime_ns == before
    run = make_run("job=score", "score.samples_per_benchmark=2")
    run.job.run = str(tuned)
    assert job.progress(run).state == "done"
    run.score.samples_per_benchmark = 3
    assert job.progress(run).state == "to do"
    assert "replaces the scores" not in first.stderr
    two_processes = vrx(*command, "runtime.cpu_processes=2", "score.samples_per_benchmark=3")
    one_process = vrx(*command, "score.samples_per_benchmark=2")
    assert two_processes.returncode == 0, two_processes.stderr
    assert f"replaces the scores {content['made_from']}, of other calibration samples: 2 of " in two_processes.stderr
    assert one_process.returncode == 0, one_process.stderr
    again = files.read_json(path)["scores"]
    for name, values in content["scores"].items():
        assert again[name] == pytest.approx(values, abs=1e-9), name
