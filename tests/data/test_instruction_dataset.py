"""Instruction data becomes a table row by row, or is refused by file, record and key."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vrx.config.errors import UserError
from vrx.config.schema import InstructionsConfig
from vrx.data import json_stream
from vrx.data.instruction_dataset import data_digest, images, lengths, open_table, subset, table

Make = Callable[..., InstructionsConfig]
unhurried = settings(deadline=None)  # a busy machine is no failure


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


SEEN = {"id": "seen", "image": "a/red.png", "conversations": talk("<image>\nWhat colour?", "Red.")}
TOLD = {"id": 7, "conversations": talk("Two and two?", "Four.", "And two?", "Six.")}
GOOD = [
    SEEN,
    TOLD,
    {**SEEN, "id": "model", "model": "tells which LVLM it is from"},  # as in LLaVA's mix
    {"conversations": talk("no id", "and no image")},
    {"id": "null", "image": None, "conversations": talk("An image that is null", "is none.")},
    {"id": "empty", "conversations": talk("An early answer may be empty:", "", "and then?", "Not this one.")},
    {"id": "tag in a sentence", "conversations": talk("What does <image> mean in HTML?", "Nothing: it is <img>.")},
    {"id": "no tag", "image": "a/red.png", "conversations": talk("Never looks.", "True.")},
    {"id": "ünïcödé \u2028", "image": "a/красный.png", "conversations": talk("<image>\n色は？", "赤。\n\u2028")},
    {"id": "late tag", "image": "a/red.png", "conversations": talk("Look:", "Where?", "Here: <image>", "Red.")},
    {"id": "weight", "conversations": [{**turn, "weight": 1} for turn in talk("More keys", "are let through.")]},
]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write records and the images they may name; options go to the configuration."""
    images = tmp_path / "images"
    (images / "a").mkdir(parents=True)
    for name in ("red", "красный"):
        Image.new("RGB", (4, 4), "red").save(images / "a" / f"{name}.png")
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "outside.png")
    (images / "text.png").write_text("not an image")
    (images / "empty.png").touch()
    (images / "link.png").symlink_to(tmp_path / "outside.png")

    def write(records: Any, **options: Any) -> InstructionsConfig:
        path = tmp_path / "data.json"
        path.write_text(records if isinstance(records, str) else json.dumps(records), encoding="utf-8")
        return InstructionsConfig(**{"path": str(path), "image_folder": str(images), **options})

    return write


def made(config: InstructionsConfig, cache: Path) -> Path:
    return table(config, cache, digest=data_digest(config))


# ---- good data


def test_every_record_becomes_a_row_in_its_place(make: Make, tmp_path: Path):
    rows = list(open_table(made(make(GOOD), tmp_path / "cache")))
    assert [row["id"] for row in rows] == [str(record.get("id", "")) for record in GOOD]
    assert [row["image"] for row in rows] == [record.get("image") for record in GOOD]
    for row, record in zip(rows, GOOD, strict=True):
        plain = [{"from": turn["from"], "value": turn["value"]} for turn in record["conversations"]]
        assert json.loads(row["conversations"]) == plain


def test_text_alone_needs_no_image_folder(make: Make, tmp_path: Path):
    assert len(open_table(made(make([TOLD], image_folder=None), tmp_path))) == 1


def test_a_folder_reached_over_a_link_is_the_folder(make: Make, tmp_path: Path):
    (tmp_path / "elsewhere").symlink_to(tmp_path / "images")
    assert len(open_table(made(make([SEEN], image_folder=str(tmp_path / "elsewhere")), tmp_path / "cache"))) == 1


def test_a_link_that_the_owner_put_into_the_folder_is_followed(make: Make, tmp_path: Path):
    assert len(open_table(made(make([{**SEEN, "image": "link.png"}]), tmp_path / "cache"))) == 1


# ---- bad data


def first(**changes: Any) -> list[dict[str, Any]]:
    """Good records around a second one with changes; a key set to `...` is taken out."""
    record = {key: value for key, value in {**SEEN, "id": "bad", **changes}.items() if value is not ...}
    return [SEEN, record, TOLD]


IN_RECORD = "record 1 (id bad): "
BAD: dict[str, tuple[Any, str]] = {
    "malformed": (f"[{json.dumps(SEEN)},\n", "not valid JSON, line 2"),
    "cut in a record": (f"[{json.dumps(SEEN)},\n" + json.dumps(TOLD)[:40], "not valid JSON, line 2"),
    "no comma": (f"[{json.dumps(SEEN)}\n{json.dumps(SEEN)}]", "not valid JSON, line 2: Expecting ',' delimiter"),
    "more after the list": (f"[{json.dumps(SEEN)}]\n\n]", "not valid JSON, line 3: Extra data"),
    "no JSON": ("id,image\n", "not valid JSON, line 1"),
    "empty file": ("", "not valid JSON, line 1"),
    "not a list": ({"conversations": SEEN["conversations"]}, "must be a JSON list"),
    "empty list": ([], "must be a JSON list of conversations with at least one"),
    "not an object": ([SEEN, "text"], "record 1: not a JSON object"),
    "no conversations": (first(conversations=...), IN_RECORD + "conversations: missing or empty"),
    "no turns": (first(conversations=[]), IN_RECORD + "conversations: missing or empty"),
    "turns are text": (first(conversations="Hello"), IN_RECORD + "conversations: missing or empty"),
    "turn is text": (first(conversations=["Hello", "you"]), IN_RECORD + "conversations[0]: needs a text under `value`"),
    "turn without text": (first(conversations=[{"from": "human"}]), IN_RECORD + "conversations[0]: needs a text"),
    "turn of a number": (
        first(conversations=[*talk("<image>"), {"from": "gpt", "value": 4}]),
        IN_RECORD + "conversations[1]: needs a text under `value`",
    ),
    "answer alone": (
        first(conversations=talk("<image>", "Red.")[1:]),
        IN_RECORD + "conversations[0].from: is 'gpt', must be 'human'",
    ),
    "two questions": (
        first(conversations=talk("<image>", "Red.")[:1] * 2),
        IN_RECORD + "conversations[1].from: is 'human', must be 'gpt'",
    ),
    "no role": (first(conversations=[{"value": "Hello"}]), IN_RECORD + "conversations[0].from: is None"),
    "other role": (
        first(conversations=[{"from": "system", "value": "Be kind."}]),
        IN_RECORD + "conversations[0].from: is 'system'",
    ),
    "tag without image": (first(image=...), IN_RECORD + "image: missing, but the conversation has an <image> tag"),
    "tag at the end without image": (
        first(image=None, conversations=talk("Look: <image>", "Red.")),
        IN_RECORD + "image: missing, but",
    ),
    "two tags": (first(conversations=talk("<image>\n<image>", "Red.")), IN_RECORD + "conversations: 2 <image> tags"),
    "tags in two turns": (
        first(conversations=talk("<image>", "Red.", "<image>", "Red.")),
        IN_RECORD + "conversations: 2 <image> tags for one image",
    ),
    "image is a number": (first(image=3), IN_RECORD + "image: is 3, must be one path"),
    "image is a list": (first(image=["a/red.png"]), IN_RECORD + "image: is ['a/red.png'], must be one path"),
    "image is empty": (first(image=""), IN_RECORD + "image: is '', must be one path"),
    "image leaves": (first(image="../outside.png"), IN_RECORD + "image: ../outside.png leaves the folder"),
    "image leaves by a detour": (first(image="a/../../outside.png"), IN_RECORD + "image: a/../../outside.png leaves"),
    "image is absolute": (first(image="/etc/hostname"), IN_RECORD + "image: /etc/hostname leaves the folder"),
}
ODD = {
    "begin with an answer, which is left out": talk("", "Hello!", "Who?", "I.")[1:],
    "end with a question: nothing is learned": talk("Two?", "Three.", "And?"),
    "end with an empty answer: nothing is learned": talk("Two?", "  \n"),
}
BAD_IMAGES = {"missing": "b.png", "text": "text.png", "no bytes": "empty.png", "a folder": "a"}


@pytest.mark.parametrize("what", ODD)
def test_what_the_official_code_takes_is_taken_and_told(make: Make, tmp_path: Path, what: str, capsys):
    rows = open_table(made(make([SEEN, {"conversations": ODD[what]}, TOLD]), tmp_path / "cache"))
    assert json.loads(rows[1]["conversations"]) == ODD[what]
    assert f"data.json: 1 of its conversations {what}" in capsys.readouterr().err


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_refused_by_file_record_and_key(make: Make, tmp_path: Path, case: str):
    records, why = BAD[case]
    config = make(records)
    with pytest.raises(ValueError) as refusal:
        made(config, tmp_path / "cache")
    assert str(refusal.value).startswith(f"{config.path}: {why}")
    assert not list((tmp_path / "cache").rglob("*"))  # no table is left of it


@pytest.mark.parametrize("image", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_a_bad_image_is_refused_by_its_record_each_time(make: Make, tmp_path: Path, image: str):
    config = make(first(image=image))
    for _ in range(2):
        with pytest.raises(ValueError) as refusal:
            made(config, tmp_path / "cache")
        assert str(refusal.value).startswith(f"{config.path}: {IN_RECORD}image: ")


def test_a_file_of_other_bytes_is_refused_by_name(make: Make, tmp_path: Path):
    config = make([TOLD])
    Path(config.path or "").write_bytes(b'[{"id": "\xff"}]')
    with pytest.raises(ValueError, match=r"data\.json: not UTF-8"):
        made(config, tmp_path / "cache")


def test_an_image_without_a_folder_to_look_in_is_refused(make: Make, tmp_path: Path):
    with pytest.raises(ValueError, match=r"record 0 \(id seen\): image: is a/red\.png, but instructions\.image_folder"):
        made(make([SEEN], image_folder=None), tmp_path / "cache")


@pytest.mark.parametrize(
    ("image", "why"), [("b.png", "b.png does not exist"), ("text.png", "text.png is not readable")]
)
def test_a_bad_image_is_told_with_its_file_and_the_way_on(make: Make, tmp_path: Path, image: str, why: str):
    with pytest.raises(ValueError, match=why):
        made(make(first(image=image)), tmp_path / "cache")


@pytest.mark.parametrize("policy", ["skip", "replace"])
@pytest.mark.parametrize("image", ["b.png", "text.png"])
def test_bad_images_are_let_through_where_training_handles_them(make: Make, tmp_path: Path, policy: str, image: str):
    rows = open_table(made(make(first(image=image), on_bad_image=policy), tmp_path / "cache"))
    assert rows["image"][:] == ["a/red.png", image, None]


@pytest.mark.parametrize("image", ["../outside.png", "/etc/hostname", "a/../../outside.png"])
def test_no_policy_lets_a_path_leave_the_image_folder(make: Make, tmp_path: Path, image: str):
    with pytest.raises(ValueError, match="leaves the folder"):
        made(make(first(image=image), on_bad_image="skip"), tmp_path / "cache")


def test_data_that_is_not_there_is_refused_by_key(tmp_path: Path):
    with pytest.raises(ValueError, match=r"instructions\.path=null: name the instruction data"):
        data_digest(InstructionsConfig())
    with pytest.raises(UserError, match=r"instructions\.path=.*nowhere\.json: no such file"):
        data_digest(InstructionsConfig(path=str(tmp_path / "nowhere.json")))


# ---- the table


def test_a_row_knows_its_words_and_whether_it_has_an_image(make: Make, tmp_path: Path):
    rows = open_table(made(make(GOOD), tmp_path / "cache"))
    words = [sum(len(turn["value"].split()) for turn in record["conversations"]) for record in GOOD]
    signs = [1 if record.get("image") else -1 for record in GOOD]
    assert lengths(rows).tolist() == [sign * count for sign, count in zip(signs, words, strict=True)]


def test_images_are_told_once_each_with_the_first_row_that_names_them(make: Make, tmp_path: Path):
    assert images(open_table(made(make(GOOD), tmp_path / "cache"))) == {"a/red.png": 0, "a/красный.png": 8}


@pytest.mark.parametrize("chunk", [1, 7, 1 << 22])
def test_rows_do_not_depend_on_how_the_file_is_cut_in_reading(make: Make, tmp_path: Path, chunk: int, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    config = make(json.dumps(GOOD, ensure_ascii=False, indent=3))
    assert list(json_stream.stream_items(Path(config.path or ""))) == GOOD


@unhurried
@given(value=st.lists(st.recursive(st.none() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists)))
def test_a_list_is_read_as_json_reads_it(tmp_path_factory, value: list[Any]):
    path = tmp_path_factory.mktemp("list") / "list.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    assert list(json_stream.stream_items(path)) == value


@pytest.mark.slow
def test_a_file_of_llavas_size_becomes_a_table_in_little_memory(tmp_path: Path):
    """665,000 rows, about a gigabyte; under a tenth of what reading it whole takes."""
    text = talk("Where is the red one? " * 20, "On the left. " * 8) * 2
    turns = [json.dumps(text), json.dumps([*talk("<image>\nWhat colour?", "Red."), *text])]
    with (tmp_path / "data.json").open("w") as file:
        file.write("[")
        for number in range(665_000):
            seen = number % 16 > 0
            image = f'"image": "coco/{number % 90_000}.jpg", ' if seen else '"model": "", '
            file.write(f'{"," * bool(number)}{{"id": {number}, {image}"conversations": {turns[seen]}}}\n')
        file.write("]")
    config = InstructionsConfig(str(tmp_path / "data.json"), str(tmp_path), on_bad_image="skip")
    code = (
        "import resource, sys, time; from pathlib import Path; began = time.monotonic()\n"
        "from vrx.data import instruction_dataset; from vrx.config.schema import InstructionsConfig\n"
        f"config = {config!r}; cache = Path({str(tmp_path / 'cache')!r})\n"
        "folder = instruction_dataset.table(config, cache, digest=instruction_dataset.data_digest(config, cache))\n"
        "print(len(instruction_dataset.open_table(folder)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,"
        " time.monotonic() - began)"
    )

    def start() -> tuple[float, ...]:
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return tuple(map(float, told.stdout.split()))

    rows, first_gigabytes, _ = start()
    assert rows == 665_000 and first_gigabytes < 1
    rows, _, seconds = start()
    assert rows == 665_000 and seconds < 5


# ---- once


def test_the_digest_is_that_of_the_file(make: Make):
    config = make(GOOD)
    assert data_digest(config) == hashlib.sha256(Path(config.path or "").read_bytes()).hexdigest()


def test_the_digest_is_kept_as_long_as_the_file_stays_what_it_is(make: Make, tmp_path: Path):
    config, cache = make(GOOD), tmp_path / "cache"
    digest = data_digest(config, cache)
    (note,) = cache.iterdir()
    note.write_text(note.read_text().replace(digest, "kept"))
    assert data_digest(config, cache) == "kept"
    make([TOLD])
    assert data_digest(config, cache) == hashlib.sha256(Path(config.path or "").read_bytes()).hexdigest()


def test_the_table_is_made_once(make: Make, tmp_path: Path):
    config = make(GOOD)
    digest = data_digest(config)
    folder = table(config, tmp_path / "cache", digest=digest)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    Path(config.path or "").unlink()  # a second call has nothing to make it from
    assert table(config, tmp_path / "cache", digest=digest) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_data_is_another_table(make: Make, tmp_path: Path):
    one = made(make([SEEN]), tmp_path / "cache")
    assert made(make([TOLD]), tmp_path / "cache") != one
    assert open_table(one)["id"][:] == ["seen"]


@pytest.mark.parametrize("name", ["conversations-{}", ".conversations-{}.partial"])
def test_a_half_made_table_is_replaced(make: Make, tmp_path: Path, name: str):
    config = make(GOOD)
    half = tmp_path / "cache" / name.format(data_digest(config)[:16])
    half.mkdir(parents=True)
    (half / "left.over").touch()
    folder = made(config, tmp_path / "cache")
    assert len(open_table(folder)) == len(GOOD)
    assert not list((tmp_path / "cache").rglob("left.over"))


def test_a_table_made_without_looking_at_images_is_looked_at_when_that_is_asked_for(make: Make, tmp_path: Path):
    made(make(first(image="b.png"), on_bad_image="skip"), tmp_path / "cache")
    with pytest.raises(ValueError, match="does not exist"):
        made(make(first(image="b.png")), tmp_path / "cache")


def test_a_table_is_looked_at_again_for_another_image_folder(make: Make, tmp_path: Path):
    made(make([SEEN]), tmp_path / "cache")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="does not exist"):
        made(make([SEEN], image_folder=str(tmp_path / "bare")), tmp_path / "cache")


# ---- fractions

num_rows, seeds = st.integers(1, 500), st.integers()
fractions = st.floats(0, 1, exclude_min=True)


@unhurried
@given(num_rows=num_rows, fraction=fractions, seed=seeds)
def test_a_fraction_is_that_many_distinct_rows(num_rows: int, fraction: float, seed: int):
    rows = subset(num_rows, fraction, seed=seed)
    assert len(rows) == len(set(rows)) == max(1, round(fraction * num_rows))
    assert set(rows) <= set(range(num_rows))
    assert subset(num_rows, fraction, seed=seed) == rows


@unhurried
@given(num_rows=num_rows, small=fractions, large=fractions, seed=seeds)
def test_a_smaller_fraction_begins_the_larger(num_rows: int, small: float, large: float, seed: int):
    small, large = sorted((small, large))
    begun = subset(num_rows, small, seed=seed)
    assert subset(num_rows, large, seed=seed)[: len(begun)] == begun


def test_ten_percent_lie_in_a_quarter_and_that_in_all():
    tenth, quarter, whole = (set(subset(1000, fraction, seed=0)) for fraction in (0.1, 0.25, 1.0))
    assert tenth < quarter < whole == set(range(1000))
    assert (len(tenth), len(quarter)) == (100, 250)


def test_another_seed_draws_other_rows():
    assert len({frozenset(subset(1000, 0.1, seed=seed)) for seed in range(5)}) == 5
