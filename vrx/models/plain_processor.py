"""The processor of a LLaVA or Bunny model as a class of transformers, which needs nothing of vrx."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import LlavaConfig, LlavaProcessor, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from vrx.config.schema import ModelConfig
from vrx.data import tokenizers
from vrx.data.images.processing import Pixels
from vrx.data.instructions.chat_templates import IMAGE_TAG
from vrx.data.instructions.jinja_template import jinja_template
from vrx.models.fit import WITH_CLASS_TOKEN

PIXEL_SETTINGS = ("do_resize", "size", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean")
PIXEL_SETTINGS += ("image_std", "do_center_crop")


def plain_processor(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, lvlm: LlavaConfig) -> LlavaProcessor:
    """A processor that makes the ids and pixels of vrx from messages and pictures.

    tokenizer: of `load_model_tokenizer`. The token at the places of image features is called <image>, as other tools
    expect it. Pictures are padded to a square where vrx pads them.
    """
    renamed = plain_tokenizer(tokenizer, lvlm.image_token_index)
    return LlavaProcessor(
        image_processor=_image_processor(config),
        tokenizer=renamed,
        patch_size=lvlm.vision_config.patch_size,  # type: ignore[union-attr]
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=int(config.image_processor in WITH_CLASS_TOKEN),
        chat_template=jinja_template(config.template, space_after_picture=_adds_space_at_first_only(tokenizer)),
    )


def save_processor(processor: Any, folder: Path) -> None:
    """Save a processor, and its picture processor also in the file that other tools and older versions read."""
    processor.save_pretrained(folder)
    if getattr(processor, "image_processor", None) is not None:
        processor.image_processor.save_pretrained(folder)


def plain_tokenizer(tokenizer: PreTrainedTokenizerBase, image_token_id: int) -> PreTrainedTokenizerFast:
    """The same tokenizer with <image> as the special token of this id; it pads on the left, for generation."""
    backend: Any = tokenizer.backend_tokenizer
    renamed = Tokenizer.from_str(_renamed(backend.to_str(), image_token_id))
    return PreTrainedTokenizerFast(
        tokenizer_object=renamed,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        unk_token=tokenizer.unk_token,
        padding_side="left",
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        extra_special_tokens={"image_token": IMAGE_TAG},
    )


def _renamed(text: str, token_id: int) -> str:
    """A `tokenizer.json` in which the token of an id is called <image> and takes no blanks around it."""
    settings = json.loads(text)
    vocabulary = settings["model"]["vocab"]
    for name in [name for name, number in vocabulary.items() if number == token_id]:
        vocabulary[IMAGE_TAG] = vocabulary.pop(name)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    others = [token for token in settings["added_tokens"] if token["id"] != token_id]
    added = [*others, {"id": token_id, "content": IMAGE_TAG, **flags, "special": True}]
    settings["added_tokens"] = sorted(added, key=lambda token: token["id"])
    return json.dumps(settings, ensure_ascii=False)


def _adds_space_at_first_only(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizers.prepend_scheme(tokenizer) == "first"


def _image_processor(config: ModelConfig) -> LlavaImageProcessorPil:
    pixels = Pixels(config)
    settings = pixels.processor.to_dict()
    kept = {key: settings[key] for key in PIXEL_SETTINGS if settings.get(key) is not None}
    height, width = pixels.size
    crop = settings.get("crop_size") or {"height": height, "width": width}  # vLLM reads it where nothing is cropped too
    options: dict[str, Any] = {"do_center_crop": False, **kept, "crop_size": crop, "do_pad": pixels.pad}
    return LlavaImageProcessorPil(**options)
