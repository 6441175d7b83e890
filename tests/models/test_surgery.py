"""Reverting and pruning do what they say and nothing else, and what is saved loads without us."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from vrx.config.errors import UserError
from vrx.config.schema import LoraConfig
from vrx.data.batch import MicroBatch
from vrx.models import lazy_state_dict, surgery
from vrx.models.layer_matching import match_layers
from vrx.models.lora import apply_lora
from vrx.models.lvlm import decoder_layers

DEPTH = 4
IMAGE = 63  # the id whose place an image's features take
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,  # every layer has something to say
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
TEXT = {"llama": LlamaConfig, "phi3": Phi3Config, "qwen2": Qwen2Config}


def small_backbone(text="llama", *, seed=0, **changed):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(TEXT[text](**{**SHAPE, **changed})).eval()
    nn.init.uniform_(model.model.norm.weight, 0.5, 2)  # as made, a norm does not turn its input
    return model


def small_lvlm(text="llama", *, seed=0, **changed):
    torch.manual_seed(seed)
    vision = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        image_size=12,
        patch_size=4,
        vision_use_head=False,
    )
    shape = LlavaConfig(
        vision_config=vision,
        text_config=TEXT[text](**{**SHAPE, **changed}),
        image_token_index=IMAGE,
        vision_feature_select_strategy="full",
        image_seq_length=9,
    )
    model = LlavaForConditionalGeneration(shape).eval()
    nn.init.uniform_(model.model.language_model.norm.weight, 0.5, 2)
    model.generation_config.pad_token_id = 0
    return model


def small_batch(*, seed=0, num=3, pad="right"):
    """Prompts of different length, each with one image of nine tokens."""
    made = torch.Generator().manual_seed(seed)
    rows = []
    for number in range(num):
        words = torch.randint(2, IMAGE, (7 + 2 * number,), generator=made).tolist()
        rows.append([1, *words[:3], *[IMAGE] * 9, *words[3:]])
    length = max(map(len, rows))
    padded = [[0] * (length - len(row)) + row if pad == "left" else row + [0] * (length - len(row)) for row in rows]
    ids = torch.tensor(padded)
    mask = torch.tensor([[int(token != 0) for token in row] for row in padded])
    return MicroBatch(ids, ids, attention_mask=mask, pixels=torch.randn(num, 3, 12, 12, generator=made))


def asked(batch):
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "pixel_values": batch.pixels}


@torch.inference_mode()
def logits(model, *, image=True):
    batch = asked(small_batch())
    if not image:
        batch = {"input_ids": torch.arange(2, 40).reshape(2, 19)}
    return model(**batch).logits


def small_tokenizer():
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(64)}, unk_token="w2"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", bos_token="w1", unk_token="w2")


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- reverting ---


@pytest.mark.parametrize("layers", [(), (0,), (1, 3), range(DEPTH)])
def test_reverting_to_itself_changes_nothing(layers):
    model = small_lvlm()
    before = snapshot(model)
    surgery.revert_layers(model, before, layers)
    assert same(snapshot(model), before)


def test_reverting_nothing_changes_nothing():
    model = small_lvlm()
    before = snapshot(model)
    surgery.revert_layers(model, small_backbone(seed=1).state_dict(), ())
    assert same(snapshot(model), before)


@pytest.mark.parametrize("layers", [(0,), (1, 3)])
def test_reverting_moves_the_chosen_layers_and_nothing_else(layers):
    model, backbone = small_lvlm(), small_backbone(seed=1)
    before = snapshot(model)
    surgery.revert_layers(model, backbone.state_dict(), layers)
    for layer, (ours, theirs) in enumerate(zip(decoder_layers(model), backbone.model.layers, strict=True)):
        assert same(ours.state_dict(), theirs.state_dict()) == (layer in layers)
    moved = {name for name, tensor in snapshot(model).items() if not torch.equal(tensor, before[name])}
    assert all(any(name.startswith(f"model.language_model.layers.{layer}.") for layer in layers) for name in moved)
    surgery.revert_layers(model, before, layers)  # an LVLM's own state undoes it
    assert same(snapshot(model), before)


@pytest.mark.parametrize("text", ["llama", "phi3"])
def test_an_lvlm_reverted_whole_says_what_its_backbone_says(text):
    backbone, model = small_backbone(text, seed=1), small_lvlm(text)
    core = model.model.language_model
    core.embed_tokens, core.norm, model.lm_head = backbone.model.embed_tokens, backbone.model.norm, backbone.lm_head
    assert not torch.equal(logits(model, image=False), logits(backbone, image=False))
    surgery.revert_layers(model, backbone.state_dict(), range(DEPTH))
    assert torch.equal(logits(model, image=False), logits(backbone, image=False))


def test_weights_in_another_dtype_are_rounded_to_the_models():
    model, backbone = small_lvlm(), small_backbone(seed=1).bfloat16()
    surgery.revert_layers(model, backbone.state_dict(), (2,))
    assert model.dtype == torch.float32
    wanted = {name: tensor.float() for name, tensor in backbone.model.layers[2].state_dict().items()}
    assert same(decoder_layers(model)[2].state_dict(), wanted)


@pytest.mark.parametrize(
    ("text", "changed", "complaint"),
    [
        ("llama", {"num_hidden_layers": 5}, "the backbone has 5 decoder layers, the model has 4"),
        ("llama", {"intermediate_size": 40}, r"layer 0: mlp\.\w+\.weight is \(.*48.*\), in the backbone \(.*40.*\)"),
        ("phi3", {}, r"layer 0: .*'mlp.gate_proj.weight'.*, only the backbone \['mlp.gate_up_proj.weight'"),
    ],
)
def test_a_backbone_that_does_not_match_is_refused_and_nothing_is_touched(text, changed, complaint):
    model = small_lvlm()
    before = snapshot(model)
    with pytest.raises(ValueError, match=complaint):
        surgery.revert_layers(model, small_backbone(text, **changed).state_dict(), (0,))
    assert same(snapshot(model), before)


def test_a_state_without_decoder_layers_is_refused():
    with pytest.raises(ValueError, match=r"no decoder layers among 1 tensors, the first ones \['weight'\]"):
        surgery.revert_layers(small_lvlm(), {"weight": torch.zeros(1)}, (0,))


@pytest.mark.parametrize("layers", [(4,), (-1,), (1, 1)])
@pytest.mark.parametrize("cut", [surgery.prune_layers, lambda m, layers: surgery.revert_layers(m, {}, layers)])
def test_layers_that_do_not_exist_are_refused(cut, layers):
    with pytest.raises(ValueError, match="valid are distinct layers among 0 to 3"):
        cut(small_lvlm(), layers)


# --- pruning ---


@pytest.fixture(params=["llava", "llama", "phi3", "qwen2"])
def model(request):
    return small_lvlm() if request.param == "llava" else small_backbone(request.param)


def seen(model):
    return logits(model, image=isinstance(model, LlavaForConditionalGeneration))


def layers_of(model):
    return decoder_layers(model) if isinstance(model, LlavaForConditionalGeneration) else model.model.layers


def test_pruning_nothing_changes_nothing(model):
    before, told, expected = snapshot(model), model.config.to_dict(), seen(model)
    surgery.prune_layers(model, ())
    assert same(snapshot(model), before)
    assert model.config.to_dict() == told
    assert torch.equal(seen(model), expected)


class Identity(nn.Module):
    def forward(self, hidden_states, *args, **kwargs):
        return hidden_states


@pytest.mark.parametrize("layers", [(0,), (3,), (2, 1), (0, 1, 3)])
def test_pruning_a_layer_is_replacing_it_by_the_identity(model, layers):
    whole = seen(model)
    kept = [layer for layer in range(DEPTH) if layer not in layers]
    originals = list(layers_of(model))
    for layer in layers:
        layers_of(model)[layer] = Identity()
    expected = seen(model)
    assert not torch.equal(expected, whole)
    for layer in layers:
        layers_of(model)[layer] = originals[layer]

    surgery.prune_layers(model, layers)
    assert torch.equal(seen(model), expected)
    assert [id(layer) for layer in layers_of(model)] == [id(originals[layer]) for layer in kept]
    assert [layer.self_attn.layer_idx for layer in layers_of(model)] == list(range(len(kept)))
    assert model.config.get_text_config().num_hidden_layers == len(kept)


def test_lists_of_the_configuration_that_tell_of_layers_are_cut_too():
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    model = small_backbone("qwen2", layer_types=kinds, sliding_window=4, use_sliding_window=True, max_window_layers=1)
    surgery.prune_layers(model, (1, 2))
    assert model.config.layer_types == ["full_attention", "sliding_attention"]


@pytest.mark.parametrize("layers", [(), (0,), (1, 2)])
def test_a_pruned_model_generates_the_same_with_and_without_cache(model, layers):
    surgery.prune_layers(model, layers)
    if isinstance(model, LlavaForConditionalGeneration):
        inputs = asked(small_batch(pad="left"))
    else:
        inputs = {"input_ids": torch.arange(2, 12).reshape(2, 5), "attention_mask": torch.ones(2, 5).long()}
    told = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "suppress_tokens": [IMAGE]}
    made = [model.generate(**inputs, **told, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*made)
    assert made[0].shape[1] == inputs["input_ids"].shape[1] + 12
    assert len(made[0][:, -12:].unique()) > 3  # no stutter that any cache would reproduce


def test_pruning_in_two_cuts_is_pruning_in_one():
    one, two = small_lvlm(), small_lvlm()
    surgery.prune_layers(one, (0, 2))
    surgery.prune_layers(two, (2,))
    surgery.prune_layers(two, (0,))
    assert same(snapshot(one), snapshot(two))
    assert one.config.to_dict() == two.config.to_dict()


def test_the_vision_tower_keeps_its_layers():
    model = small_lvlm()
    surgery.prune_layers(model, (1,))
    assert model.config.vision_config.num_hidden_layers == DEPTH
    assert sum("vision_tower" in name and "layer_norm1.weight" in name for name, _ in model.named_parameters()) == DEPTH


def test_a_model_without_layers_or_with_adapters_is_not_made():
    with pytest.raises(ValueError, match="all 4 decoder layers to be pruned: at least one has to stay"):
        surgery.prune_layers(small_lvlm(), range(DEPTH))
    model = small_lvlm()
    apply_lora(model, (1,), LoraConfig(r=2))
    with pytest.raises(ValueError, match="merge them before pruning"):
        surgery.prune_layers(model, (0,))
    with pytest.raises(TypeError, match="Linear: valid are LlavaForConditionalGeneration and decoder-only backbones"):
        surgery.prune_layers(nn.Linear(1, 1), (0,))


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_loads_without_us_and_says_the_same_bit_for_bit(model, tied, tmp_path):
    if tied:
        model = type(model)(model.config)  # fresh, with the head tied to the embeddings
        model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = True
        model.tie_weights()
        model.eval()
    surgery.prune_layers(model, (1, 2))
    folder = tmp_path / "outputs" / "pruned"
    folder.mkdir(parents=True)
    (folder / "stale").touch()
    surgery.save_pruned(model, small_tokenizer(), folder, "Decoder layers 1 and 2 of 4 were cut.")
    loader = AutoModelForImageTextToText if isinstance(model, LlavaForConditionalGeneration) else AutoModelForCausalLM
    again, told = loader.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    assert type(again) is type(model)
    assert torch.equal(seen(again.eval()), seen(model))
    config = json.loads((folder / "config.json").read_text())
    assert config.get("text_config", config)["num_hidden_layers"] == 2
    assert PreTrainedTokenizerFast.from_pretrained(folder)("w5 w6")["input_ids"] == [5, 6]
    assert [path.name for path in folder.parent.iterdir()] == ["pruned"]
    assert not (folder / "stale").exists()


def test_the_model_card_says_what_was_cut(tmp_path):
    model = small_lvlm()
    surgery.prune_layers(model, (3,))
    surgery.save_pruned(model, small_tokenizer(), tmp_path / "tiny-3", "Decoder layer 3 of 4 was cut.")
    card = (tmp_path / "tiny-3" / "README.md").read_text()
    assert "# tiny-3\n\nDecoder layer 3 of 4 was cut.\n\n3 decoder layers remain" in card
    assert "LlavaForConditionalGeneration.from_pretrained" in card


# --- weights on disk ---


def write(state, folder, kind):
    """The state as a checkpoint folder of the given kind."""
    folder.mkdir()
    suffix = "safetensors" if kind.endswith("safetensors") else "bin"
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    state = {name: tensor.clone() for name, tensor in state.items()}
    save = save_file if suffix == "safetensors" else torch.save
    if not kind.startswith("sharded"):
        save(state, folder / f"{stem}.{suffix}")
        return lazy_state_dict.LazyStateDict(folder)
    weight_map = {name: f"{stem}-{1 + index % 2}.{suffix}" for index, name in enumerate(state)}
    for file in set(weight_map.values()):
        save({name: state[name] for name in state if weight_map[name] == file}, folder / file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return lazy_state_dict.LazyStateDict(folder)


@pytest.mark.parametrize("kind", ["safetensors", "bin", "sharded safetensors", "sharded bin"])
def test_a_stored_checkpoint_is_the_state_it_was_made_of(kind, tmp_path):
    state = small_backbone(seed=1).state_dict()
    stored = write(state, tmp_path / "backbone", kind)
    assert same(dict(stored), state)
    assert len(stored) == len(state)
    assert stored.shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}
    model, other = small_lvlm(), small_lvlm()
    surgery.revert_layers(model, stored, (1, 2))
    surgery.revert_layers(other, state, (1, 2))
    assert same(snapshot(model), snapshot(other))


def test_every_layout_of_names_is_read(tmp_path):
    lvlm = small_lvlm()
    names = lvlm.state_dict()
    lvlm.save_pretrained(tmp_path / "lvlm")  # language_model.model.layers.N
    stored = lazy_state_dict.LazyStateDict(tmp_path / "lvlm")
    assert any(name.startswith("language_model.model.layers.") for name in stored)
    bare = lvlm.model.language_model.state_dict()
    backbone = {f"model.{name}": tensor for name, tensor in bare.items()}
    for other in (stored, bare, backbone):
        for match in match_layers(names, other):
            assert len(match) == 9
            assert all(torch.equal(names[here], other[there]) for here, there in match.values())


def test_a_buffer_that_old_checkpoints_hold_does_not_matter():
    model = small_lvlm()
    state = small_backbone().state_dict()
    old = {**state, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}
    assert match_layers(model.state_dict(), old) == match_layers(model.state_dict(), state)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        lazy_state_dict.LazyStateDict(tmp_path)
