"""Prediction files: the key of everything that predictions depend on, damaged files, and the parts of ranks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig, ModelConfig
from vrx.evaluation.families import Sample
from vrx.evaluation.prediction_files import (
    PredictionHeader,
    load_predictions,
    merge_parts,
    part_file,
    predictions_file,
    predictions_key,
    questions_digest,
    read_header,
    read_parts,
    read_predictions,
    update_scored,
    with_current_references,
    write_predictions,
)
from vrx.evaluation.run_benchmarks import rank_share
from vrx.metrics.answer import Answer
from vrx.runs.content_digest import weights_digest

KEY = "0123456789abcdef"
FULL = Answer("a", "text", ("r", "s"), ("A", "B"), "type", "group", (64, 48), (1.0, 2.0, 3.5, 4.0), (-0.5, -1.0))


def samples(*ids: str) -> list[Sample]:
    return [Sample(f"What is {name}?", None, Answer(name, "", ("r",))) for name in ids]


def write(path: Path, answers: list[Answer], *, key: str = KEY, cut: int = 0) -> Path:
    """Write an answer file; `cut` bytes are missing at its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, PredictionHeader(key), answers)
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])
    return path


# ---- files


def test_an_answer_is_read_as_it_was_written(tmp_path: Path):
    bare = Answer("b", "", ())
    assert read_predictions(write(tmp_path / "a.jsonl", [FULL, bare]), KEY) == {"a": FULL, "b": bare}


@settings(deadline=None)
@drawn(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_any_text_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, texts: list[str]):
    answers = [Answer(str(number), text, (text,)) for number, text in enumerate(texts)]
    path = write(tmp_path_factory.getbasetemp() / "any.jsonl", answers)
    assert list(read_predictions(path, KEY).values()) == answers


@pytest.mark.parametrize("cut", range(1, 40))
def test_only_a_truncated_last_line_is_dropped(tmp_path: Path, cut: int):
    last = Answer("last", "赤い\u2028", ("é",), choices=("ü",))
    answers = read_predictions(write(tmp_path / "a.jsonl", [FULL, last], cut=cut), KEY)
    assert answers == ({"a": FULL, "last": last} if cut == 1 else {"a": FULL})  # the first byte cut is the line's end


@pytest.mark.parametrize("text", ["", "{", '{"key": "01234', '{"other": 1}\n'])
def test_a_file_without_its_header_holds_no_answers(tmp_path: Path, text: str):
    (tmp_path / "a.jsonl").write_text(text)
    assert read_predictions(tmp_path / "a.jsonl", KEY) == {}


def test_a_missing_file_holds_no_answers(tmp_path: Path):
    assert read_predictions(tmp_path / "a.jsonl", KEY) == {}


def test_answers_with_another_key_are_not_served(tmp_path: Path):
    assert read_predictions(write(tmp_path / "a.jsonl", [FULL]), "another") == {}


def test_an_unknown_key_of_an_answer_or_header_is_ignored(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [FULL])
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps({**line, "confidence": [0.5]}) + "\n" for line in lines))
    assert read_predictions(path, KEY) == {"a": FULL}


def test_a_line_that_is_no_answer_ends_the_predictions(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [FULL])
    for line in ("[1]", '{"id": "b", "text": "without references"}', "3"):
        path.write_text(path.read_text("utf-8").splitlines(keepends=True)[0] + line + "\n")
        assert read_predictions(path, KEY) == {}


def test_predictions_of_the_first_version_have_no_version_in_their_header(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [FULL])
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text(json.dumps({"key": KEY}) + "\n" + lines[1])
    predictions = load_predictions(path)
    assert predictions is not None
    assert (predictions.header.version, predictions.answers) == (1, {"a": FULL})


def test_predictions_of_a_newer_version_are_refused_by_name_and_version(tmp_path: Path):
    write_predictions(tmp_path / "a.jsonl", PredictionHeader(KEY, version=2), [FULL])
    with pytest.raises(UserError, match=r"a\.jsonl: predictions of version 2; this program reads up to 1"):
        read_predictions(tmp_path / "a.jsonl", KEY)


# ---- keys


def test_the_same_questions_to_the_same_weights_have_the_same_key():
    assert predictions_key("w", samples("a", "b"), 8) == predictions_key("w", samples("a", "b"), 8)


CHANGED_INPUTS = {
    "weights": ("v", samples("a", "b"), 8),
    "token limit": ("w", samples("a", "b"), 9),
    "an id": ("w", samples("a", "c"), 8),
    "number of questions": ("w", samples("a"), 8),
    "the order": ("w", samples("b", "a"), 8),
    "a prompt": ("w", [samples("a")[0], dataclasses.replace(samples("b")[0], prompt="Why?")], 8),
    "an image": (
        "w",
        [samples("a")[0], dataclasses.replace(samples("b")[0], image=Path("b.png"))],
        8,
    ),  # missing
}


@pytest.mark.parametrize("changed", CHANGED_INPUTS)
def test_every_input_of_generation_changes_the_key(changed: str):
    assert predictions_key(*CHANGED_INPUTS[changed]) != predictions_key("w", samples("a", "b"), 8)


def test_the_scale_of_boxes_changes_the_key_where_it_is_set():
    def key(scale: str | None) -> tuple[str, str]:
        scaled = [dataclasses.replace(sample, box_scale=scale) for sample in samples("a", "b")]
        return predictions_key("w", scaled, 8), questions_digest(scaled)

    assert key(None) == ("41ab63f75b4d13a2", "fdfc2e7e68f100b4"), "keys of stored answers stay"
    for part in range(2):
        assert len({key(scale)[part] for scale in (None, "1000", "resized")}) == 3


def test_references_do_not_change_the_key_of_generated_answers():
    rescored = [dataclasses.replace(sample, answer=Answer(sample.answer.id, "", ("other",))) for sample in samples("a")]
    assert predictions_key("w", rescored, 8) == predictions_key("w", samples("a"), 8)


def test_the_key_depends_on_the_content_of_an_image_and_not_on_its_path(tmp_path: Path):
    def with_image(content: bytes, name: str) -> str:
        (tmp_path / name).write_bytes(content)
        return predictions_key("w", [dataclasses.replace(samples("a")[0], image=tmp_path / name)], 8)

    long = bytes(300_000)
    first = with_image(long, "a.png")
    assert with_image(long, "b.png") == first
    assert with_image(long[:-1] + b"1", "a.png") != first
    assert with_image(b"1" + long[1:], "a.png") != first
    assert with_image(long[:-1], "a.png") != first
    assert len({with_image(content, "c.png") for content in (b"", b"1", b"2", b"12")}) == 4


def test_output_types_have_keys_of_their_own_and_a_log_likelihood_depends_on_its_reference():
    kinds = ("text", "letters", "loglikelihood")
    assert len({predictions_key("w", samples("a"), 8, output_type=kind) for kind in kinds}) == 3
    assert len({predictions_key("w", samples("a"), 8, dtype=dtype) for dtype in ("float32", "bfloat16")}) == 2
    others = [dataclasses.replace(sample, answer=Answer(sample.answer.id, "", ("other",))) for sample in samples("a")]
    keys = [predictions_key("w", batch, 8, output_type="loglikelihood") for batch in (others, samples("a"))]
    assert keys[0] != keys[1]


def test_answers_are_scored_against_the_current_references():
    read = {"a": Answer("a", "said", ("old",), question_type="old", choice_log_probs=(-1.0,), log_likelihood=-2.0)}
    (answer,) = with_current_references([Sample("?", None, Answer("a", "", ("new",), group="g"))], read)
    assert answer == Answer("a", "said", ("new",), group="g", choice_log_probs=(-1.0,), log_likelihood=-2.0)


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    """A model of three folders with a file of weights each."""
    parts = {}
    for part in ("backbone", "vision_tower", "projector"):
        folder = tmp_path / part
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(part.encode())
        parts[part] = str(folder)
    return ModelConfig(name="m", **parts)


def test_weights_are_identified_by_the_content_of_their_files(model: ModelConfig, tmp_path: Path):
    run_dir = tmp_path / "run"
    seen = [weights_digest(model, run_dir)]
    assert weights_digest(model, tmp_path / "another run") == seen[0]  # without tuned weights

    (run_dir / "adapter").mkdir(parents=True)
    for name, content in (("adapter_model", b"1"), ("projector", b"2"), ("adapter_model", b"3")):
        (run_dir / "adapter" / f"{name}.safetensors").write_bytes(content)
        seen.append(weights_digest(model, run_dir))
    for part in ("backbone", "vision_tower", "projector"):
        (Path(getattr(model, part)) / "model.safetensors").write_bytes(b"others")
        seen.append(weights_digest(model, run_dir))
    assert len(set(seen)) == len(seen)


def test_weights_that_differ_in_one_region_have_another_digest(model: ModelConfig, tmp_path: Path):
    """A checkpoint that was tuned again in some layers keeps its name, its size and its first bytes."""
    file, content = Path(model.backbone) / "model.safetensors", bytearray(9 << 20)
    seen = set()
    for offset in range(0, len(content), 1 << 20):
        content[offset : offset + (1 << 18)] = b"1" * (1 << 18)
        file.write_bytes(content)
        seen.add(weights_digest(model, tmp_path / "run"))
    assert len(seen) == 9


def test_corrected_references_are_written_beside_the_old_texts(tmp_path: Path):
    path = predictions_file(tmp_path, "gqa")
    config = BenchmarkConfig(family="short_answer", metric="gqa_match")
    header = PredictionHeader(KEY, {"value": 1.0, "num_samples": 1}, dataclasses.asdict(config))
    path.parent.mkdir()
    write_predictions(path, header, [Answer("a", "said", ("old",))])
    right = [Answer("a", "said", ("new",))]
    update_scored(tmp_path, "gqa", right, config)
    assert read_header(tmp_path, "gqa") == header
    assert list(read_predictions(path, KEY).values()) == right
    before = path.stat().st_mtime_ns
    update_scored(tmp_path, "gqa", right, config)
    assert path.stat().st_mtime_ns == before


# ---- parts


def test_parts_are_merged_in_the_order_of_the_samples(tmp_path: Path):
    all_samples = samples("c", "a", "d", "b")
    for rank, names in enumerate(("db", "ac")):
        write(part_file(tmp_path, "gqa", rank), [Answer(name, name.upper(), ("r",)) for name in names])
    merge_parts(tmp_path, "gqa", all_samples, PredictionHeader(KEY))
    merged = read_predictions(predictions_file(tmp_path, "gqa"), KEY)
    assert [(name, answer.text) for name, answer in merged.items()] == [("c", "C"), ("a", "A"), ("d", "D"), ("b", "B")]
    assert [path.name for path in (tmp_path / "answers").iterdir()] == ["gqa.jsonl"]  # the parts are gone


def test_parts_of_every_rank_are_read_but_only_of_this_benchmark_and_key(tmp_path: Path):
    write(part_file(tmp_path, "gqa", 0), [Answer("a", "1", ())])
    write(part_file(tmp_path, "gqa", 11), [Answer("b", "2", ())])
    write(part_file(tmp_path, "gqa", 2), [Answer("c", "3", ())], key="another")
    write(part_file(tmp_path, "gqa_more", 0), [Answer("d", "4", ())])
    assert set(read_parts(tmp_path, "gqa", KEY)) == {"a", "b"}


@drawn(num_ranks=st.integers(1, 4), seen=st.lists(st.sets(st.sampled_from("abcdefgh")), min_size=4, max_size=4))
def test_every_sample_belongs_to_one_rank_whenever_the_ranks_start(num_ranks: int, seen: list[set[str]]):
    """A rank that starts late already sees answers of other ranks; no sample may be lost by that."""
    all_samples, answered = samples(*"abcdefgh"), set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(num_ranks))
        for rank in range(num_ranks):
            patch.setenv("RANK", str(rank))
            done = seen[rank] & answered
            mine = {sample.answer.id for sample in rank_share(all_samples, done=done)}
            assert not mine & answered
            answered |= mine | done
    assert answered == set("abcdefgh")


def test_parts_that_lack_an_answer_are_not_merged(tmp_path: Path):
    write(part_file(tmp_path, "gqa", 0), [Answer("a", "1", ())])
    with pytest.raises(KeyError, match="b"):
        merge_parts(tmp_path, "gqa", samples("a", "b"), PredictionHeader(KEY))
    assert not predictions_file(tmp_path, "gqa").exists()
    assert set(read_parts(tmp_path, "gqa", KEY)) == {"a"}


def test_a_prediction_file_is_json_lines_with_a_header(tmp_path: Path):
    lines = write(tmp_path / "a.jsonl", [FULL]).read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[0]) == {"key": KEY, "version": 1}
    assert json.loads(lines[1])["text"] == "text"
