"""The processor of a checkpoint: its own tokenizer, chat template and picture processor, on Pillow and without video.

`AutoProcessor` wants torchvision for every processor that also takes videos (transformers 5.23). This module builds the
same processor from its parts and leaves the video part out, so that pixels come from Pillow on every machine.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import PIL
import transformers
from transformers import AutoImageProcessor
from transformers.models.auto.configuration_auto import model_type_to_module_name
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.processing_utils import ProcessorMixin

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.data.conversations.own_formats import METHODS, TEMPLATES
from vrx.runs.files import write_json
from vrx.runs.hub import resolve_checkpoint
from vrx.runs.tuned_checkpoint import base_checkpoint

CONFIG, SETTINGS = "config.json", "processor_config.json"
STAND_INS = {  # processors that need torchvision or num2words for videos alone, and one that makes the same of pictures
    "SmolVLMProcessor": "Idefics3Processor",
}
LIMITS = {  # fields of `model.pictures`, and what picture processors call them
    "min_pixels": ("min_pixels",),
    "max_pixels": ("max_pixels",),
    "max_tiles": ("max_patches", "max_image_tiles", "max_tiles"),
}
OPTIONAL_PARTS = ("video_processor", "feature_extractor", "audio_processor")

Processor = Any  # of transformers: a `ProcessorMixin` with `tokenizer`, `image_processor` and a chat template


def load_processor(config: ModelConfig) -> Processor:
    """The processor of the checkpoint `model.lvlm`, with the limits of `model.pictures`.

    `UserError` for a checkpoint without a chat template, of a type that transformers does not know, with files that
    cannot be read, and for a limit that its picture processor does not have.
    """
    key = f"model.lvlm={config.lvlm}"
    folder = resolve_checkpoint("model.lvlm", base_checkpoint(str(config.lvlm)), weights=False)
    kind = model_type(folder, key)
    try:
        processor_class = _processor_class(kind, key)
        pictures = AutoImageProcessor.from_pretrained(folder, backend="pil")
        limits = _limits(config, pictures)
        if limits:
            pictures = AutoImageProcessor.from_pretrained(folder, backend="pil", **limits)
        settings, _ = processor_class.get_processor_dict(folder)
        parts = [
            _tokenizer(config, folder, processor_class)
            if name == "tokenizer"
            else pictures
            if "image" in name
            else None
            for name in processor_class.get_attributes()
        ]
        processor = processor_class.from_args_and_dict(parts, settings)
    except UserError:
        raise
    except ImportError as error:
        needed = str(error).split("'")[1::2] or [str(error).strip().splitlines()[0]]
        raise UserError(f"{key}: the processor of {kind} needs {needed[0]}; pip install {needed[0]}") from error
    except Exception as error:  # transformers, tokenizers and jinja raise many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{key}: its processor cannot be read: {reason}") from error
    processor.chat_template = _chat_template(processor, kind, key)
    return processor


def describe(processor: Processor) -> dict[str, str]:
    """What made the pixels: the classes of processor and picture processor, the backend, and its version."""
    pictures = type(processor.image_processor).__name__
    return {
        "processor": type(processor).__name__,
        "image_processor": pictures,
        "backend": "pil" if pictures.endswith("Pil") else "transformers",
        "pillow": PIL.__version__,
    }


def model_type(folder: Path, key: str) -> str:
    """The `model_type` in the configuration of a checkpoint; `key` names the checkpoint in errors."""
    try:
        return str(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model_type"])
    except FileNotFoundError:
        raise UserError(f"{key}: has no {CONFIG}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{key}: its {CONFIG} cannot be read: {error}") from None


def forward_keys(config: ModelConfig) -> frozenset[str]:
    """The names of the arguments that the forward pass of a checkpoint's class takes."""
    key = f"model.lvlm={config.lvlm}"
    kind = model_type(resolve_checkpoint("model.lvlm", base_checkpoint(str(config.lvlm)), weights=False), key)
    name = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind)
    if name is None:
        raise UserError(f"{key}: transformers has no class for pictures and text of model_type {kind}")
    return frozenset(inspect.signature(getattr(transformers, name).forward).parameters)


def _processor_class(kind: str, key: str) -> type[Any]:
    """The processor class of a model type, which also takes None in place of a part for videos or audio."""
    name = PROCESSOR_MAPPING_NAMES.get(kind)
    if name is None:
        raise UserError(f"{key}: transformers has no processor for model_type {kind}; remote code is never run")
    name = STAND_INS.get(name, name)
    base = getattr(_module_of(name), name)

    def check_argument(self: ProcessorMixin, argument_name: str, argument: Any) -> Any:
        if argument is None and argument_name in OPTIONAL_PARTS:
            return None
        return base.check_argument_for_proper_class(self, argument_name, argument)

    methods = {"check_argument_for_proper_class": check_argument, "save_pretrained": _save, **METHODS.get(name, {})}
    return type(name, (base,), methods)


def _save(processor: Processor, folder: Path) -> None:
    """Save a processor without the parts that it lacks; transformers' own method asks for all of them."""
    processor.tokenizer.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    settings = {key: value for key, value in processor.to_dict().items() if value is not None}
    write_json(Path(folder) / SETTINGS, {key: value for key, value in settings.items() if key != "image_processor"})
    (Path(folder) / "chat_template.jinja").write_text(processor.chat_template, encoding="utf-8")


def _module_of(name: str) -> ModuleType:
    """The module that defines a processor class.

    The top of transformers has in its place, where torchvision is missing, a class that refuses to be made.
    """
    owners = (model_type_to_module_name(kind) for kind, named in PROCESSOR_MAPPING_NAMES.items() if named == name)
    modules = (f"transformers.models.{owner}.processing_{owner}" for owner in owners)
    module = next(module for module in modules if importlib.util.find_spec(module))
    with _pillow_in_place_of_torchvision(module):
        return importlib.import_module(module)


@contextlib.contextmanager
def _pillow_in_place_of_torchvision(processing: str) -> Iterator[None]:
    """Let a module of a processor import from the picture processor on Pillow, where torchvision is missing.

    Pixtral's takes a function on sizes from the one on torchvision; both modules define it.
    """
    package, _, name = processing.rpartition(".")
    on_torchvision, on_pillow = (
        f"{package}.{name.replace('processing', kind)}" for kind in ("image_processing", "image_processing_pil")
    )
    is_needed = importlib.util.find_spec("torchvision") is None and on_torchvision not in sys.modules
    if not is_needed or importlib.util.find_spec(on_pillow) is None:
        yield
        return
    sys.modules[on_torchvision] = importlib.import_module(on_pillow)
    try:
        yield
    finally:
        del sys.modules[on_torchvision]


def _tokenizer(config: ModelConfig, folder: Path, processor_class: type[Any]) -> Any:
    """The tokenizer of `model.tokenizer`, else the checkpoint's own."""
    if config.tokenizer is not None:
        folder = resolve_checkpoint("model.tokenizer", config.tokenizer, weights=False)
    tokenizer = processor_class._load_tokenizer_from_pretrained("tokenizer", folder)
    if tokenizer.eos_token_id is None:
        raise UserError(f"model.lvlm={config.lvlm}: its tokenizer has no end token (eos_token)")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def _limits(config: ModelConfig, pictures: Any) -> dict[str, Any]:
    """The limits of `model.pictures` by the names that this picture processor gives them."""
    valid = {*inspect.get_annotations(pictures.valid_kwargs), *vars(pictures)}
    limits = {}
    for field, value in asdict(config.pictures).items():
        if value is None:
            continue
        name = next((name for name in LIMITS[field] if name in valid), None)
        if name is None:
            takes = [key for key, names in LIMITS.items() if valid & set(names)]
            raise UserError(
                f"model.pictures.{field}={value}: {type(pictures).__name__} has no such limit; "
                f"valid are {', '.join(takes) or 'none'}"
            )
        limits[name] = value
    return limits


def _chat_template(processor: Processor, kind: str, key: str) -> str:
    template = processor.chat_template or processor.tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    template = template or TEMPLATES.get(kind)
    if not template:
        raise UserError(
            f"{key}: has no chat template; valid is a checkpoint with chat_template.jinja, so copy that of its "
            "instruct model into the folder"
        )
    return template
