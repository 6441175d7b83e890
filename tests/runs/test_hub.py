"""Benchmarks by the names they have on the hub, over the network, in the files that lie there."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluation.test_readers import HUB, picture, table
from support import hub

GQA_QUESTION = {"id": "201", "imageId": "n1", "question": "Red?", "answer": "no"}
TASKS = ("snarks", "navigate")
PARTS: dict[str, tuple[str, dict[str, dict[str, list[dict[str, Any]]]]]] = {  # id, and rows by subset and split
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
told = json.load(sys.stdin)
configs = composed(["benchmark=[all,perplexity,flickr30k]"]).benchmark
found = {}
for key, (name, options) in told.items():
    try:
        read = samples(name, dataclasses.replace(configs[name], **options), limit=None)
        images = [sample.image.read_bytes().hex() if sample.image else "" for sample in read]
        found[key] = list(zip([dataclasses.asdict(sample.answer) for sample in read], images))
    except Exception as error:
        found[key] = [type(error).__name__, str(error)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A hub with the data sets of the paper in small; gives the environment in which it is the hub."""
    root = tmp_path_factory.mktemp("hub")
    for name, subsets in PARTS.values():
        folder, configs = root / name, []
        for subset, splits in subsets.items():
            place = "data" if subset == "default" else subset
            (folder / place).mkdir(parents=True)
            for split, rows in splits.items():
                table(rows).to_parquet(folder / place / f"{split}-00000-of-00001.parquet")
            files = [{"split": split, "path": f"{place}/{split}-*"} for split in splits]
            configs.append({"config_name": subset, "data_files": files})
        (folder / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")  # JSON is YAML, too
    with hub.serving(root) as address:
        home = str(tmp_path_factory.mktemp("home"))
        yield {
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HOME": home,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "0",
        }


def read(network: dict[str, str], wanted: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, list[Any]]:
    """Benchmarks as a process of their own reads them, which the environment tells where the hub is."""
    script = [sys.executable, "-c", READ, str(Path(__file__).parents[1])]
    told = subprocess.run(script, env=network, input=json.dumps(wanted), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def test_every_data_set_of_the_hub_is_read_by_its_name(network: dict[str, str], tmp_path: Path):
    wanted = {name: (name, {"path": place, "cache": str(tmp_path)}) for name, (place, _) in PARTS.items()}
    found = read(network, wanted)
    for name in PARTS.keys() & HUB.keys():
        told = [json.loads(json.dumps(dataclasses.asdict(answer))) for answer in HUB[name][1]]
        assert [answer for answer, _ in found[name]] == told
    for name in ("ocrvqa", "docvqa", "refcocog", "mmbench", "textvqa", "gqa"):
        assert {image for _, image in found[name]} == {picture().hex()}
    assert [answer["references"] for answer, _ in found["gqa"]] == [["no"]]
    assert [answer["question_type"] for answer, _ in found["bbh"]] == list(TASKS)
    again = read({**network, "HF_ENDPOINT": "http://127.0.0.1:9"}, wanted)
    assert again == found, "what was read once needs no network"


WRONG = {
    "no such data set": ({"path": "lmms-lab/nothing"}, "lmms-lab/nothing"),
    "no such subset": ({"subset": "fr"}, "'fr' not found. Available: ['cn', 'en']"),
    "no such split": ({"split": "nowhere"}, "\"nowhere\". Should be one of ['dev']"),
}


def test_what_the_hub_lacks_is_refused_in_one_line(network: dict[str, str], tmp_path: Path):
    base = {"path": PARTS["mmbench"][0], "cache": str(tmp_path)}
    found = read(network, {case: ("mmbench", base | options) for case, (options, _) in WRONG.items()})
    for case, (options, why) in WRONG.items():
        kind, told = found[case]
        assert kind == "UserError"
        assert told.startswith(f"benchmark.mmbench.path={options.get('path', base['path'])} subset=")
        assert why in told
        assert "\n" not in told


def test_a_benchmark_of_the_hub_is_scored_by_the_command(
    network: dict[str, str], vrx: Callable[..., subprocess.CompletedProcess], monkeypatch, tmp_path: Path
):
    for name in ("HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, network[name])
    options = ["benchmark=[gqa,bbh]", "benchmark.gqa.path=lmms-lab/GQA", "benchmark.bbh.path=lukaemon/bbh"]
    told = vrx("job=evaluate", *options, "benchmark.gqa.max_new_tokens=4", "benchmark.bbh.max_new_tokens=4")
    assert told.returncode == 0, told.stderr
    (path,) = tmp_path.glob("outputs/evaluate/tiny/*/record.json")
    scores = json.loads(path.read_text())["scores"]
    assert {name: entry["num_samples"] for name, entry in scores.items()} == {"gqa": 1, "bbh": 2}
