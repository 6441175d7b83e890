"""Benchmarks and models by their hub ids, over the network, from a local server that answers as the hub does."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import hub
from support.hub_datasets import HUB, table
from support.official_files import picture
from support.whole_runs import command

GQA_QUESTION = {"id": "201", "imageId": "n1", "question": "Red?", "answer": "no"}
TASKS = ("snarks", "navigate")
DATASETS: dict[str, tuple[str, dict[str, dict[str, list[dict[str, Any]]]]]] = {  # id, and rows by subset and split
    "ocrvqa": ("howard-hou/OCR-VQA", {"default": {"test": HUB["ocrvqa"][0]}}),
    "flickr30k": ("lmms-lab/flickr30k", {"default": {"test": HUB["flickr30k"][0]}}),
    "docvqa": (
        "lmms-lab/DocVQA",
        {"DocVQA": {"validation": HUB["docvqa"][0]}, "InfographicVQA": {"validation": [{"questionId": "9"}]}},
    ),
    "refcocog": ("lmms-lab/RefCOCOg", {"default": {"test": HUB["refcocog"][0], "val": HUB["refcocog"][0] * 2}}),
    "mmbench": ("lmms-lab/MMBench", {"cn": {"dev": HUB["mmbench"][0] * 2}, "en": {"dev": HUB["mmbench"][0]}}),
    "gqa": (
        "lmms-lab/GQA",
        {
            "testdev_balanced_images": {"testdev": [{"id": "n1", "image": "PIC"}]},
            "testdev_balanced_instructions": {"testdev": [GQA_QUESTION]},
        },
    ),
    "scienceqa": ("lmms-lab/ScienceQA", {"ScienceQA-IMG": {"test": HUB["scienceqa"][0]}}),
    "textvqa": ("lmms-lab/textvqa", {"default": {"validation": HUB["textvqa"][0]}}),
    "mmlu": ("cais/mmlu", {"all": {"test": HUB["mmlu"][0], "dev": HUB["mmlu"][0] * 5}}),
    "bbh": ("lukaemon/bbh", {task: {"test": [{"input": task, "target": "no"}]} for task in TASKS}),
    "wikitext": ("EleutherAI/wikitext_document_level", {"wikitext-2-raw-v1": {"test": HUB["wikitext"][0]}}),
    "pile10k": ("NeelNanda/pile-10k", {"default": {"train": HUB["pile10k"][0]}}),
}
READ = """
import dataclasses, json, sys
sys.path.insert(0, sys.argv[1])
from support.composing import composed
from vrx.evaluation.benchmarks import samples
requests = json.load(sys.stdin)
configs = composed(["benchmark=[all,perplexity,flickr30k]"]).benchmark
results = {}
for key, (name, options) in requests.items():
    try:
        read = samples(name, dataclasses.replace(configs[name], **options), limit=None)
        images = [sample.image.read_bytes().hex() if sample.image else "" for sample in read]
        results[key] = list(zip([dataclasses.asdict(sample.answer) for sample in read], images))
    except Exception as error:
        results[key] = [type(error).__name__, str(error)]
print(json.dumps(results))
"""
RESOLVE = """
import json, sys
from vrx.runs.hub import hub_commit, resolve_checkpoint, split_revision
results = {}
for name in sys.argv[1:]:
    try:
        folder = resolve_checkpoint("model.backbone", name)
        files = sorted(file.name for file in folder.iterdir())
        results[name] = [(folder / "config.json").read_text(), hub_commit(*split_revision(name)), files]
    except Exception as error:
        results[name] = [type(error).__name__, str(error)]
print(json.dumps(results))
"""


def write_dataset(folder: Path, subsets: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Write a repository of a data set as the hub has it, with its subsets and splits in parquet."""
    configs = []
    for subset, splits in subsets.items():
        data = "data" if subset == "default" else subset
        (folder / data).mkdir(parents=True)
        for split, rows in splits.items():
            table(rows).to_parquet(folder / data / f"{split}-00000-of-00001.parquet")
        files = [{"split": split, "path": f"{data}/{split}-*"} for split in splits]
        configs.append({"config_name": subset, "data_files": files})
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")  # JSON is YAML, too


def write_model(folder: Path, content: str) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    (folder / "model.safetensors").write_text(content)
    (folder / "modeling.py").write_text("code")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A hub with small data sets and a model; yields the environment of a process for which it is the hub."""
    root = tmp_path_factory.mktemp("hub")
    for name, subsets in DATASETS.values():
        write_dataset(root / name, subsets)
    rows = HUB["mmbench"][0]
    write_dataset(root / f"{DATASETS['mmbench'][0]}@v2", {"en": {"dev": [*rows, {**rows[0], "index": 999}]}})
    write_model(root / "org" / "llm", "first")
    write_model(root / "org" / "llm@v2", "second")
    with hub.serving(root) as address:
        home = str(tmp_path_factory.mktemp("home"))
        yield {
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HOME": home,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "0",
        }


def run_script(network: dict[str, str], script: str, *arguments: str, stdin: object = None) -> dict[str, list[Any]]:
    """What a script prints in a process of its own, since the hub's address is read when its client is imported."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=network, input=json.dumps(stdin), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read(network: dict[str, str], requests: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, list[Any]]:
    """The samples and images of benchmarks; of a refused one the error's type and message."""
    return run_script(network, READ, str(Path(__file__).parents[1]), stdin=requests)


def unreachable(network: dict[str, str]) -> dict[str, str]:
    return {**network, "HF_ENDPOINT": "http://127.0.0.1:9"}


# ---- data sets


def test_every_data_set_of_the_hub_is_read_by_its_id(network: dict[str, str], tmp_path: Path):
    requests = {name: (name, {"path": hub_id, "cache": str(tmp_path)}) for name, (hub_id, _) in DATASETS.items()}
    results = read(network, requests)
    for name in DATASETS.keys() & HUB.keys():
        expected = [json.loads(json.dumps(dataclasses.asdict(answer))) for answer in HUB[name][1]]
        assert [answer for answer, _ in results[name]] == expected
    for name in ("ocrvqa", "docvqa", "refcocog", "mmbench", "textvqa", "gqa"):
        assert {image for _, image in results[name]} == {picture().hex()}
    assert [answer["references"] for answer, _ in results["gqa"]] == [["no"]]
    assert [answer["question_type"] for answer, _ in results["bbh"]] == list(TASKS)
    assert read(unreachable(network), requests) == results, "what was read once needs no network"


def test_a_revision_of_a_data_set_is_read_and_cached_apart(network: dict[str, str], tmp_path: Path):
    base = {"path": DATASETS["mmbench"][0], "cache": str(tmp_path)}
    results = read(network, {"main": ("mmbench", base), "v2": ("mmbench", {**base, "revision": "v2"})})
    assert [answer["id"] for answer, _ in results["v2"]] == [*(answer["id"] for answer, _ in results["main"]), "999"]
    assert len(list(tmp_path.glob("mmbench-*.jsonl"))) == 2


REFUSED = {
    "no such data set": ({"path": "lmms-lab/nothing"}, "lmms-lab/nothing"),
    "no such subset": ({"subset": "fr"}, "'fr' not found. Available: ['cn', 'en']"),
    "no such split": ({"split": "nowhere"}, "\"nowhere\". Should be one of ['dev']"),
    "no such revision": ({"revision": "nowhere"}, "nowhere"),
}


def test_what_the_hub_lacks_is_refused_in_one_line(network: dict[str, str], tmp_path: Path):
    base = {"path": DATASETS["mmbench"][0], "cache": str(tmp_path)}
    results = read(network, {case: ("mmbench", base | options) for case, (options, _) in REFUSED.items()})
    for case, (options, reason) in REFUSED.items():
        error_type, message = results[case]
        assert error_type == "UserError"
        assert message.startswith(f"benchmark.mmbench.path={options.get('path', base['path'])} subset=")
        assert reason in message
        assert "\n" not in message


def test_a_benchmark_of_the_hub_is_scored_by_the_command(network: dict[str, str], tmp_path: Path):
    options = ["benchmark=[gqa,bbh]", "benchmark.gqa.path=lmms-lab/GQA", "benchmark.bbh.path=lukaemon/bbh"]
    options += ["benchmark.gqa.max_new_tokens=4", "benchmark.bbh.max_new_tokens=4"]
    done = subprocess.run(
        command("job=evaluate", *options),
        cwd=tmp_path,
        env={**network, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/evaluate/tiny/*/record.json")
    scores = json.loads(path.read_text())["scores"]
    assert {name: entry["num_samples"] for name, entry in scores.items()} == {"gqa": 1, "bbh": 2}
    header = json.loads((path.parent / "answers" / "gqa.jsonl").read_text().splitlines()[0])
    assert header["dataset_commit"] == hub.commit_of("main")


# ---- models


def test_a_model_is_downloaded_at_the_commit_of_its_revision_and_without_code(network: dict[str, str]):
    commit = hub.commit_of("v2")
    results = run_script(network, RESOLVE, "org/llm", "org/llm@v2", f"org/llm@{commit}")
    files = ["config.json", "model.safetensors"]
    assert results == {
        "org/llm": ["first", hub.commit_of("main"), files],
        "org/llm@v2": ["second", commit, files],
        f"org/llm@{commit}": ["second", commit, files],
    }
    assert run_script(unreachable(network), RESOLVE, "org/llm", "org/llm@v2").items() <= results.items()


def test_a_commit_in_the_cache_is_used_when_the_branch_has_moved_on(network: dict[str, str], tmp_path: Path):
    ref = tmp_path / "hub" / "models--org--llm" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text(hub.commit_of("v2"))
    (content, commit, _) = run_script({**network, "HF_HOME": str(tmp_path)}, RESOLVE, "org/llm")["org/llm"]
    assert (content, commit) == ("second", hub.commit_of("v2"))


def test_a_model_that_the_hub_lacks_is_refused_in_one_line(network: dict[str, str]):
    results = run_script(network, RESOLVE, "org/nothing", "org/llm@nowhere")
    assert results == {
        "org/nothing": ["UserError", "model.backbone=org/nothing: no folder here, and the hub has no such repository"],
        "org/llm@nowhere": [
            "UserError",
            "model.backbone=org/llm@nowhere: the hub's repository has no revision nowhere",
        ],
    }
