"""The prepared language model knows what it was trained on, and its chat template is ours."""

from __future__ import annotations

from support.small_world import prepared_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from vrx.data.instructions.chat_templates import render
from vrx.data.instructions.encoding import IGNORE, tokenize, tokenize_prompt
from vrx.data.tokenizers import load_tokenizer


def test_the_prepared_model_completes_a_sentence():
    folder = prepared_folder() / "backbone"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = model.generate(
        **tokenizer("The capital of France is", return_tensors="pt"), max_new_tokens=2, do_sample=False
    )
    assert "Paris" in tokenizer.decode(ids[0])


def test_a_conversation_is_encoded_as_the_models_own_template_does():
    folder = prepared_folder() / "backbone"
    ours, theirs = load_tokenizer(folder, "smollm2"), AutoTokenizer.from_pretrained(folder)
    turns = [("user", "What is it?"), ("assistant", "a dog"), ("user", "Where?\nSay it."), ("assistant", "top left")]
    text = theirs.apply_chat_template([{"role": role, "content": value} for role, value in turns], tokenize=False)
    conversation = [{"from": "human" if role == "user" else "gpt", "value": value} for role, value in turns]
    assert render(conversation, "smollm2", has_image=False) == text
    encoded = tokenize(conversation, ours, "smollm2", has_image=False)
    assert encoded.input_ids == theirs(text)["input_ids"]
    learned = [token for token, label in zip(encoded.input_ids, encoded.labels, strict=True) if label != IGNORE]
    assert theirs.decode(learned) == "a dog<|im_end|>top left<|im_end|>"
    assert tokenize_prompt("What is it?", ours, "smollm2", has_image=True).count(-200) == 1
