"""Conversations as training samples of a model with its own processor and chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.data.batch import TrainingSample
from vrx.data.conversations.chat_encoding import ChatEncoder
from vrx.data.conversations.conversation_mixture import ConversationRow
from vrx.data.conversations.processors import forward_keys, load_processor
from vrx.data.images.processing import open_rgb
from vrx.data.sample_dataset import SampleDataset

BLANK_SIDE = 64  # pixels; the processor makes it as large as the model needs it


def load_encoder(config: ModelConfig) -> ChatEncoder:
    """The encoder of the model `model.lvlm`; samples longer than `model.max_length` are cut."""
    return ChatEncoder(load_processor(config), forward_keys=forward_keys(config), max_length=config.max_length)


class ChatDataset(SampleDataset[ConversationRow]):
    """The rows of a mixture as samples."""

    def __init__(self, rows: Any, encoder: ChatEncoder, *, on_bad_image: str, section: str = "instructions") -> None:
        super().__init__(rows, on_bad_image=on_bad_image, section=section)
        self.encoder = encoder

    def row_id(self, row: ConversationRow) -> str:
        return row.id

    def sample(self, row: ConversationRow, record: str) -> TrainingSample:
        pictures = [open_rgb(file) for file in row.pictures]
        try:
            return self.encoder.encode(row.messages, pictures, record=record)
        except UserError as error:
            raise UserError(f"{row.source}: {error}") from None

    def sample_without_pictures(self, row: ConversationRow) -> TrainingSample:
        return self.encoder.encode([_text_alone(message) for message in row.messages], [])

    def blank(self) -> TrainingSample:
        """A question about a black picture, from which nothing is learned."""
        question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}
        return self.encoder.prompt([question], [Image.new("RGB", (BLANK_SIDE, BLANK_SIDE))])


def _text_alone(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "content": [part for part in message["content"] if part["type"] == "text"]}
