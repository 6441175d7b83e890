"""Conversations by a checkpoint's own chat template: what is learned, what is refused, what a prompt is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat_formats import FORMATS, ChatFormat, noise, turn, write_format
from vrx.config.errors import UserError
from vrx.data.conversations.chat_encoding import ChatEncoder
from vrx.data.conversations.processors import forward_keys, load_processor
from vrx.data.instructions.encoding import IGNORE

QUESTION = turn("user", "<image>", "what is in the picture ?")
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], int]] = {  # messages, and the number of pictures
    "one turn": ([QUESTION, turn("assistant", "a cat")], 1),
    "two turns": (
        [QUESTION, turn("assistant", "a cat"), turn("user", "why ?"), turn("assistant", "It's\nred,\na dog")],
        1,
    ),
    "two pictures": ([turn("user", "<image>", "and", "<image>", "?"), turn("assistant", "é ü 猫 🐈 .")], 2),
    "text alone": ([turn("user", "say Mark0x0Answer"), turn("assistant", "Mark0x0Answer and Mark1x0Answer")], 0),
    "same answers": ([QUESTION, turn("assistant", "yes"), turn("user", "yes"), turn("assistant", "yes")], 1),
}
PICTURES = [noise(90, 60), noise(56, 112, seed=1)]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatEncoder]:
    return {name: encoder(tmp_path_factory.mktemp(name), chat) for name, chat in FORMATS.items()}


def encoder(folder: Path, chat: ChatFormat, *, max_length: int | None = None, **changes: Any) -> ChatEncoder:
    config = write_format(folder, chat, **changes)
    return ChatEncoder(load_processor(config), forward_keys=forward_keys(config), max_length=max_length)


def learned(encoder: ChatEncoder, labels: list[int]) -> list[str]:
    """The texts of the runs of labels."""
    texts: list[list[int]] = [[]]
    for label in labels:
        if label != IGNORE:
            texts[-1].append(label)
        elif texts[-1]:
            texts.append([])
    return [encoder.tokenizer.decode(text) for text in texts if text]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_labels_are_the_answers_and_their_ends(encoders: dict[str, ChatEncoder], name: str, conversation: str) -> None:
    chat, encode = FORMATS[name], encoders[name]
    messages, number = CONVERSATIONS[conversation]
    sample = encode.encode(messages, PICTURES[:number])
    answers = [message["content"][0]["text"] for message in messages if message["role"] == "assistant"]
    ends = [chat.end] * (len(answers) - 1) + [chat.last_end or chat.end]
    texts = [text.removeprefix(" ") for text in learned(encode, sample.labels)]
    assert texts == [answer + end for answer, end in zip(answers, ends, strict=True)]
    assert all(label in (IGNORE, token) for token, label in zip(sample.input_ids, sample.labels, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_training_sample_begins_with_the_prompt(encoders: dict[str, ChatEncoder], name: str) -> None:
    encode = encoders[name]
    sample = encode.encode([QUESTION, turn("assistant", "a cat")], PICTURES[:1])
    prompt = encode.prompt([QUESTION], PICTURES[:1])
    first_label = next(place for place, label in enumerate(sample.labels) if label != IGNORE)
    assert prompt.input_ids == sample.input_ids[:first_label]
    assert all(label == IGNORE for label in prompt.labels)


@pytest.mark.parametrize("name", FORMATS)
def test_random_answers_come_back(encoders: dict[str, ChatEncoder], name: str) -> None:
    generator = random.Random(name)
    alphabet = "ab {}[]<>|'\"\\/%#\n.äß猫0"
    for _ in range(20):
        answers = ["x" + "".join(generator.choices(alphabet, k=generator.randint(0, 12))) + "y" for _ in range(2)]
        messages = [QUESTION, turn("assistant", answers[0]), turn("user", "a"), turn("assistant", answers[1])]
        sample = encoders[name].encode(messages, PICTURES[:1])
        texts = [text.removeprefix(" ") for text in learned(encoders[name], sample.labels)]
        assert all(text.startswith(answer) for text, answer in zip(texts, answers, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_tensors_along_the_tokens_have_their_number(encoders: dict[str, ChatEncoder], name: str) -> None:
    for messages, number in CONVERSATIONS.values():
        sample = encoders[name].encode(messages, PICTURES[:number])
        for key in ("mm_token_type_ids", "token_type_ids", "cross_attention_mask"):
            if key in sample.tensors:
                assert len(sample.tensors[key]) == len(sample.input_ids) == len(sample.labels)
        assert ("pixel_values" in sample.tensors) == bool(number)


@pytest.mark.parametrize("name", ["chatml", "think", "glm"])
def test_picture_has_as_many_tokens_as_its_grid(encoders: dict[str, ChatEncoder], name: str) -> None:
    encode = encoders[name]
    sample = encode.encode([turn("user", "<image>", "<image>"), turn("assistant", "a")], PICTURES)
    picture_id = encode.tokenizer.convert_tokens_to_ids(FORMATS[name].picture)
    grids = sample.tensors["image_grid_thw"].prod(1)
    assert sample.input_ids.count(picture_id) == int(grids.sum()) // 4
    assert len(sample.tensors["pixel_values"]) == int(grids.sum())


def test_system_turn_is_written_or_refused_by_the_template(encoders: dict[str, ChatEncoder]) -> None:
    messages = [turn("system", "You are a cat ."), turn("user", "who ?"), turn("assistant", "a cat")]
    for name, chat in FORMATS.items():
        if chat.has_system:
            sample = encoders[name].encode(messages, [])
            assert "You are a cat ." in encoders[name].tokenizer.decode(sample.input_ids)
        else:
            with pytest.raises(
                UserError, match=r"record 7: messages: the model's chat template refuses them: System role"
            ):
                encoders[name].encode(messages, [], record="record 7")


REWRITING = {
    "c['text'] | upper": "a cat",
    "c['text'] | replace('cat', 'dog')": "a cat",
    "c['text'].split('</think>')[-1]": "thoughts</think>a cat",
    "c['text'][:4]": "a cat on a mat",
}


@pytest.mark.parametrize(("text", "answer"), REWRITING.items())
def test_template_that_rewrites_an_answer_is_refused(tmp_path: Path, text: str, answer: str) -> None:
    source = FORMATS["chatml"].template
    assert source is not None
    encode = encoder(tmp_path, FORMATS["chatml"], template=source.replace("c['text']", text))
    with pytest.raises(UserError, match=r"^record 3: messages\[1\]: the model's chat template rewrites this answer"):
        encode.encode([turn("user", "hi"), turn("assistant", answer)], [], record="record 3")


@pytest.mark.parametrize("name", ["chatml", "gemma", "idefics"])
def test_text_with_the_token_of_a_picture_is_refused(encoders: dict[str, ChatEncoder], name: str) -> None:
    encode = encoders[name]
    assert encode.picture_token is not None
    messages = [turn("user", "<image>", f"what is {encode.picture_token} ?"), turn("assistant", "a cat")]
    with pytest.raises(UserError, match=r"record 1: messages: 2 times .* in the text of 1 pictures"):
        encode.encode(messages, PICTURES[:1], record="record 1")


@pytest.mark.parametrize("name", FORMATS)
def test_sample_too_long_ends_before_the_first_picture_that_is_cut(tmp_path: Path, name: str) -> None:
    first = [turn("user", "<image>", "what ?"), turn("assistant", "a cat")]
    messages = [*first, turn("user", "and", "<image>", "?"), turn("assistant", "a dog")]
    unlimited = encoder(tmp_path, FORMATS[name])
    whole, begun = unlimited.encode(messages, PICTURES), unlimited.prompt(messages[:1], PICTURES[:1])
    places = [place for place, token in enumerate(whole.input_ids) if token in unlimited.picture_ids]
    for length, num_pictures in ((places[0], 0), (places[-1], 1)):  # the last token of a picture lies beyond
        short = encoder(tmp_path, FORMATS[name], max_length=length).encode(messages, PICTURES, record="record 5")
        assert len(short.input_ids) <= length
        assert short.input_ids == whole.input_ids[: len(short.input_ids)]
        assert short.labels == whole.labels[: len(short.labels)]
        assert short.cut_images == [f"record 5: model.max_length={length}"]
        assert short.num_pictures == num_pictures
        pixels = begun.tensors if num_pictures else {}
        assert ("pixel_values" in short.tensors) == bool(num_pictures)
        assert all(short.tensors[key].equal(pixels[key]) for key in ("pixel_values", "image_grid_thw") if key in pixels)


def test_long_text_is_cut_at_its_end(tmp_path: Path) -> None:
    messages = CONVERSATIONS["two turns"][0]
    whole = encoder(tmp_path, FORMATS["gemma"]).encode(messages, PICTURES[:1])
    short = encoder(tmp_path, FORMATS["gemma"], max_length=len(whole.input_ids) - 3).encode(messages, PICTURES[:1])
    assert (short.input_ids, short.labels) == (whole.input_ids[:-3], whole.labels[:-3])
    assert short.num_pictures == 1
    assert not short.cut_images
    assert len(short.tensors["token_type_ids"]) == len(short.input_ids)


def test_sample_without_a_learned_token_says_so(encoders: dict[str, ChatEncoder]) -> None:
    sample = encoders["chatml"].encode([turn("user", "hi")], [], record="record 9")
    assert sample.masked_samples == ["record 9: every label is masked (no answer within model.max_length)"]
