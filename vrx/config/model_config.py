"""The part `model` of the schema: which LVLM a run tunes, and where its weights are."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from vrx.config.bounds import MANY, MAX_LAYERS, number

LLAVA = "llava"  # the architecture that is assembled from parts; every other one is transformers' own class


@dataclass
class PicturesConfig:
    """Limits that the model's own picture processor gets; null: those of its preprocessor_config.json."""

    min_pixels: int | None = number(None, 1, MANY)
    max_pixels: int | None = number(None, 1, MANY)
    max_tiles: int | None = number(None, 1, 4096)  # of a picture that is cut into tiles


@dataclass
class ModelConfig:
    """An LVLM as (vision tower, projector, backbone); each a hub id, a folder, or `vrx:` and a path in the package.

    With another `architecture` than llava it is one checkpoint, `lvlm`, which transformers loads. A hub id may name a
    commit, tag or branch: `owner/name@revision`. Of `lvlm` the key `revision` may name it, which becomes part of the
    id.
    """

    name: str = MISSING
    architecture: str = LLAVA  # or a row of vrx/models/architectures.py, the model_type of the checkpoint
    # decoder layers of the backbone; the worker checks it against the weights
    num_layers: int = number(MISSING, 1, MAX_LAYERS)
    backbone: str = ""
    vision_tower: str = ""
    projector: str = ""  # or `pretrained`: that of the finished `vrx pretrain` of this tower and backbone
    lvlm: str | None = None  # a finished LVLM instead of the parts, in any layout of vrx/models/checkpoint_layouts.py
    revision: str | None = None  # of lvlm, where that is a hub id: a commit, tag or branch
    tokenizer: str | None = None  # where it is neither the LVLM's own nor the backbone's
    template: str = MISSING  # a name of vrx/data/instructions/chat_templates.py, or chat: the checkpoint's own
    image_token: str = ""  # a token that never occurs in text; the image's features replace it
    num_image_tokens: int = number(576, 1, 65536)  # of a picture; where pictures differ, an estimate for costs alone
    vision_feature_layer: int = number(-2, -MAX_LAYERS, MAX_LAYERS)
    vision_feature_select_strategy: str = "full"  # default drops the class token of clip and dinov2, full keeps all
    image_processor: str = "siglip"  # the kind of tower and its processor: clip | siglip | dinov2
    image_aspect_ratio: str = "pad"  # pad to a square in the processor's mean colour | square
    max_length: int = number(2048, 1, 10**7)  # tokens of a conversation, image tokens counted
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        if self.revision is not None and self.lvlm is not None:
            self.lvlm, self.revision = f"{self.lvlm}@{self.revision}", None

    @property
    def is_assembled(self) -> bool:
        """Whether this is a LLaVA- or Bunny-like model of parts, and not one class of transformers."""
        return self.architecture == LLAVA
