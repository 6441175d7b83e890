"""Templates, ids and label masks against what the official LLaVA and Bunny code computed; our own tokenizer.

`golden/official_models`: arrays made by haotian-liu/LLaVA c121f043 (transformers 4.37.2) and BAAI-DCAI/Bunny
08273acb (4.40.0) on small synthetic tokenizers. `preprocess.npz` holds ids and labels of their datasets,
`forward.npz` labels after image expansion (16 tokens an image), `generate.npz` the ids of evaluation prompts.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.official import GOLDEN
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from vrx.data import tokenizers
from vrx.data.instructions.chat_templates import TEMPLATES, get_template, render
from vrx.data.instructions.encoding import IGNORE, expand_images, tokenize, tokenize_prompt
from vrx.data.tokenizers import IMAGE_TOKEN, load_tokenizer

FAMILIES = {  # folder: (tokenizer, template)
    "llava_official": ("vicuna_like", "vicuna_v1"),
    "bunny_official": ("llama3_like", "bunny_llama3"),
    "bunny_phi3_official": ("phi3_like", "bunny_phi3"),
}
PROBES = json.loads((GOLDEN / "tokenizers" / "probes.json").read_text(encoding="utf-8"))


@cache
def cases(family):
    return json.loads((GOLDEN / family / "cases.json").read_text(encoding="utf-8"))


@cache
def arrays(family, name):
    with np.load(GOLDEN / family / "arrays" / name) as file:
        return {key: file[key].tolist() for key in file.files}


@cache
def official_tokenizer(family, without_bos=False):
    name, template = FAMILIES[family]
    if not without_bos:
        return load_tokenizer(GOLDEN / "tokenizers" / name, template)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(GOLDEN / "tokenizers" / name, folder, dirs_exist_ok=True)
        path = Path(folder, "tokenizer_config.json")
        path.chmod(0o644)
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"add_bos_token": False}))
        return load_tokenizer(folder, template)


@cache
def trained_tokenizer():
    """A small byte-level BPE that splits text like the embedded model's: " ASSISTANT:" is a single piece."""
    tokenizer = Tokenizer(models.BPE())
    pieces = r"\s?[A-Za-z]+:?|\s?\d+\.\d+|\s?\d+|\s?[^\sA-Za-z\d]|\s"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|begin_of_text|>", "<|end_of_text|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [
        render(conversation("What is it?", "a dog"), "bunny_llama3"),
        "the red square is 0.25 wide: [0.10, 0.20]",
    ]
    tokenizer.train_from_iterator(texts * 20, trainer)
    bos = (specials[0], tokenizer.token_to_id(specials[0]))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=specials[0], eos_token=specials[1], pad_token=specials[1]
    )


def conversation(*values):
    return [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(values)]


def learned_runs(encoded):
    """The runs of consecutive learned ids."""
    runs, run = [], []
    for label in encoded.labels:
        if label == IGNORE:
            if run:
                runs.append(run)
            run = []
        else:
            run.append(label)
    return [*runs, run] if run else runs


OFFICIAL_RUNS = [
    (family, key.removesuffix("/input_ids"))
    for family in FAMILIES
    for key in arrays(family, "preprocess.npz")
    if key.endswith("/input_ids")
]


@pytest.mark.parametrize(("family", "key"), OFFICIAL_RUNS)
def test_ids_labels_and_warning_match_the_official_code(family, key):
    *no_bos, case_id, length = key.split("/")
    samples = {sample["id"]: sample for sample in cases(family)["conversations"] + cases(family).get("edge", [])}
    sample = samples[case_id]
    encoded = tokenize(
        sample["conversations"],
        official_tokenizer(family, without_bos=bool(no_bos)),
        FAMILIES[family][1],
        has_image="image" in sample,
        max_length=int(length),
    )
    assert encoded.input_ids == arrays(family, "preprocess.npz")[f"{key}/input_ids"]
    assert encoded.labels == arrays(family, "preprocess.npz")[f"{key}/labels"]
    warning = cases(family)["per_case"][key]["warning"]
    if encoded.mismatch is None:
        assert warning is None
    else:
        assert warning == "WARNING: tokenization mismatch: {} vs. {}. (ignored)".format(*encoded.mismatch)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_prompts_match_the_official_code(family):
    tokenizer, template = official_tokenizer(family), FAMILIES[family][1]
    for case in cases(family)["generation"]:
        question = case["question"]
        assert render(conversation(f"{question}\n<image>"), template) == case["prompt"]
        expected = arrays(family, "generate.npz")[f"{case['run']}/{case['id']}/input_ids"]
        assert tokenize_prompt(question, tokenizer, template, has_image=True) == expected
        tagged = conversation(f"{question} <image>")
        assert tokenize_prompt(tagged, tokenizer, template, has_image=True) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_after_image_expansion_match_the_official_code(family):
    samples = {sample["id"]: sample for sample in cases(family)["conversations"] + cases(family).get("edge", [])}
    tokenizer, template = official_tokenizer(family), FAMILIES[family][1]
    label_keys = [key for key in arrays(family, "forward.npz") if re.fullmatch("single/.*/labels", key)]
    assert len(label_keys) >= 3
    for key in label_keys:
        _, case_id, length, _ = key.split("/")
        sample, length = samples[case_id], int(length)
        encoded = tokenize(sample["conversations"], tokenizer, template, has_image="image" in sample, max_length=length)
        ids, labels = expand_images(
            encoded.input_ids, encoded.labels, image_token_id=9999, num_image_tokens=16, max_length=length
        )
        assert [labels] == arrays(family, "forward.npz")[key]
        assert ids.count(9999) == 16 * encoded.input_ids.count(IMAGE_TOKEN)


@pytest.mark.parametrize("probe", PROBES["results"])
def test_loaded_tokenizer_gives_the_official_ids(probe):
    folder = probe.split(":")[0].split(" ")[0]
    family = next(family for family, (name, _) in FAMILIES.items() if name == folder)
    tokenizer = official_tokenizer(family, without_bos="add_bos_token=False" in probe)
    result = PROBES["results"][probe]
    for text, expected in zip(PROBES["strings"], result["ids"], strict=True):
        assert tokenizers.encode(text.replace("{EOS}", result["eos"]), tokenizer, has_image=False) == expected


def test_sentencepiece_model_alone_gives_the_same_ids(tmp_path):
    for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(GOLDEN / "tokenizers" / "vicuna_like" / name, tmp_path / name)
    slow, fast = load_tokenizer(tmp_path, "vicuna_v1"), official_tokenizer("llava_official")
    sample = conversation("<image>", "A dog.", "Why?", " It barks.")
    encoded = tokenize(sample, slow, "vicuna_v1", has_image=True)
    assert encoded.mismatch is None
    assert encoded == tokenize(sample, fast, "vicuna_v1", has_image=True)


def test_tokenizer_json_alone_gives_the_same_ids(tmp_path):
    shutil.copy(GOLDEN / "tokenizers" / "llama3_like" / "tokenizer.json", tmp_path)
    sample = conversation("<image>", "A dog.")
    bare, full = load_tokenizer(tmp_path, "bunny_llama3"), official_tokenizer("bunny_official")
    assert tokenize(sample, bare, "bunny_llama3", has_image=True) == tokenize(
        sample, full, "bunny_llama3", has_image=True
    )


def test_add_bos_token_of_the_folder_is_respected():
    assert tokenizers.adds_bos(official_tokenizer("bunny_phi3_official"))
    assert not tokenizers.adds_bos(official_tokenizer("bunny_phi3_official", without_bos=True))


def test_unknown_template_wrong_tokenizer_and_invalid_turns_are_refused():
    with pytest.raises(ValueError, match="bunny_llama3, bunny_phi3"):
        get_template("vicuna")
    with pytest.raises(ValueError, match="</s>"):
        load_tokenizer(GOLDEN / "tokenizers" / "llama3_like", "vicuna_v1")
    with pytest.raises(ValueError, match="turn 1 is from 'human'"):
        render([{"from": "human", "value": "a"}] * 2, "vicuna_v1")
    with pytest.raises(ValueError, match="drop the last answer"):
        tokenize_prompt(conversation("a", "b"), trained_tokenizer(), "bunny_llama3", has_image=False)


def test_image_tag_in_a_text_only_sample_is_plain_text():
    sample = conversation("What is <image>?", "A tag.")
    encoded = tokenize(sample, trained_tokenizer(), "bunny_llama3", has_image=False)
    assert IMAGE_TOKEN not in encoded.input_ids
    assert "What is <image>?" in trained_tokenizer().decode(encoded.input_ids)


def test_saved_tokenizer_gives_the_same_ids_when_loaded(tmp_path):
    trained_tokenizer().save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path, "bunny_llama3")
    assert (loaded.pad_token, loaded.eos_token) == ("<|end_of_text|>", "<|end_of_text|>")
    sample = conversation("<image>\nWhat is it?", "a dog", "Where?", "[0.10, 0.20]")
    assert tokenize(sample, loaded, "bunny_llama3", has_image=True) == tokenize(
        sample, trained_tokenizer(), "bunny_llama3", has_image=True
    )


def test_labels_start_right_after_the_role():
    tokenizer = trained_tokenizer()
    for answer in ("a dog", "0.25", "[0.10, 0.20]", "\nNo", " two spaces", "é!", "A", "5"):
        encoded = tokenize(conversation("<image>\nWhat is it?", answer), tokenizer, "bunny_llama3", has_image=True)
        start = next(i for i, label in enumerate(encoded.labels) if label != IGNORE)
        assert tokenizer.convert_ids_to_tokens(encoded.input_ids[start - 1]) == "ĠASSISTANT:"
        assert tokenizer.decode(encoded.input_ids[start:]) == f" {answer}<|end_of_text|>"
        prompt = tokenize_prompt("What is it?", tokenizer, "bunny_llama3", has_image=True)
        assert encoded.input_ids[:start] == prompt


TEXT = st.text(alphabet="abcXYZ 019.,:?![]()é\n'", min_size=1, max_size=24).filter(str.strip)
ROUNDS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)
TOKENIZERS = {"own": ("bunny_llama3", trained_tokenizer)} | {
    template: (template, lambda family=family: official_tokenizer(family)) for family, (_, template) in FAMILIES.items()
}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(rounds=ROUNDS, has_image=st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_exactly_the_answers_and_their_end_tokens_are_learned(name, rounds, has_image):
    template, tokenizer = TOKENIZERS[name][0], TOKENIZERS[name][1]()
    values = [value for pair in rounds for value in pair]
    if has_image:
        values[0] = f"{values[0]} <image>"
    encoded = tokenize(conversation(*values), tokenizer, template, has_image=has_image)
    assert encoded.mismatch is None
    assert all(label in (IGNORE, token) for label, token in zip(encoded.labels, encoded.input_ids, strict=True))
    assert encoded.input_ids.count(IMAGE_TOKEN) == has_image
    learned = [tokenizer.decode(run, clean_up_tokenization_spaces=False) for run in learned_runs(encoded)]
    assert [text.strip(" ") for text in learned] == [f"{a}{TEMPLATES[template].end}".strip(" ") for _, a in rounds]


def test_text_that_encodes_to_the_image_token_gets_the_next_id():
    options = {"image_token_id": 3, "num_image_tokens": 2}
    expected = ([1, 4, 3, 3, 4, 2], [IGNORE, IGNORE, IGNORE, IGNORE, 4, 2])
    assert expand_images([1, 3, IMAGE_TOKEN, 3, 2], [IGNORE, IGNORE, IMAGE_TOKEN, 3, 2], **options) == expected


@given(
    ids=st.lists(st.sampled_from([1, 2, 3, IMAGE_TOKEN]), max_size=12),
    num_image_tokens=st.integers(1, 5),
    max_length=st.integers(1, 30),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_expansion_keeps_all_text_and_cuts_at_the_length(ids, num_image_tokens, max_length):
    labels = [IGNORE if token == 1 else token for token in ids]
    options = {"image_token_id": 7, "num_image_tokens": num_image_tokens}
    full_ids, full_labels = expand_images(ids, labels, **options)
    assert [token for token in full_ids if token != 7] == [token for token in ids if token != IMAGE_TOKEN]
    assert full_ids.count(7) == num_image_tokens * ids.count(IMAGE_TOKEN)
    assert all(
        label == (IGNORE if token in (1, 7) else token) for token, label in zip(full_ids, full_labels, strict=True)
    )
    cut = expand_images(ids, labels, **options, max_length=max_length)
    assert cut == (full_ids[:max_length], full_labels[:max_length])
