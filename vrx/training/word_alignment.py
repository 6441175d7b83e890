"""An LVLM whose projector learns which patches show which words of a caption, without the language model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from vrx.config.schema import EngineConfig
from vrx.data.instructions.encoding import IGNORE
from vrx.models.lvlm import PROJECTOR, projector
from vrx.training.loss import LvlmWithLoss
from vrx.training.whitening import Whitening, tower_features

SCALE = 8.0  # of the cosines between patches and words; a larger one is content with patches far from any word
NORM_WEIGHT = 0.1  # of the term that gives patches the length of words


class WordAlignment(LvlmWithLoss):
    """The loss of `captions.objective=word_alignment`, which runs the tower, the projector and the embedding alone.

    A caption is translated out of its picture as IBM model 1 translates sentences, after Duygulu et al. 2002, "Object
    Recognition as Machine Translation": patch i says word w with probability

        p(w | i) = softmax over w of SCALE * cos(patch i, word w),

    where patch i is the projector's output, word w the input embedding of a token, both less the mean of the words,
    and the words are the caption tokens of the micro-batch. The loss of a token is -log of the mean of p(w | i) over
    the patches. Tokens are weighted by log(captions / captions with the token), so that those of every caption, such
    as "a", do not count. Because cosines leave the length of patches open, a further term draws it to that of words.

    While it is trained, the projector takes whitened features; `folded` gives the one that takes them as they are.

    Embedding supervision of a projector follows Yin et al. 2024, "SEA: Supervised Embedding Alignment for Token-Level
    Visual-Textual Integration in MLLMs", which takes the words of patches from CLIP instead.
    """

    def __init__(
        self, lvlm: PreTrainedModel, blank: Tensor, switches: EngineConfig | None, whitening: Whitening | None
    ) -> None:
        super().__init__(lvlm, blank, switches)
        self.whitening = whitening

    def folded(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The projector's tensors by their names in the LVLM, as any LVLM uses them."""
        return state if self.whitening is None else self.whitening.folded(state, prefix=PROJECTOR)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        pixels: Tensor | None = None,
        position_ids: Tensor | None = None,
        sample_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """The weighted mean over tokens, times the supervised tokens, as the loop divides by them; fp32 scalar.

        The arguments are those of `LvlmWithLoss`. 0 where no two captions differ, or none has a picture.
        """
        samples = sample_numbers(input_ids, sample_lengths)
        tokens_per_image = self.lvlm.config.image_seq_length
        num_samples = int(samples.max()) + 1
        is_image_token = input_ids == self.lvlm.config.image_token_id
        has_image = torch.bincount(samples[is_image_token], minlength=num_samples) == tokens_per_image
        is_word = (labels != IGNORE) & has_image[samples]
        words, columns = input_ids[is_word].unique(return_inverse=True)
        vectors = self.lvlm.model.get_input_embeddings()(words)  # (words, hidden)
        features = self._features(pixels, vectors).float()  # (images x tokens, hidden)
        said = torch.zeros(num_samples, len(words), device=input_ids.device)
        said[samples[is_word], columns] = 1
        said = said[has_image]  # (images, words): whether the caption has the word
        weights = said * (said.any(1).sum() / said.sum(0)).log()
        if pixels is None or not weights.any():
            return 0.0 * features.sum()
        patches = features.unflatten(0, (-1, tokens_per_image))
        return alignment_loss(patches, vectors.float(), weights) * (labels[:, 1:] != IGNORE).sum()

    def _projected(self, images: Tensor) -> Tensor:
        core = self.lvlm.model
        features = tower_features(core.vision_tower, images, self.lvlm.config)
        if self.whitening is not None:
            features = self.whitening(features)
        return projector(self.lvlm)(features).flatten(0, 1)


def alignment_loss(patches: Tensor, words: Tensor, weights: Tensor) -> Tensor:
    """The mean of the tokens' losses by their weights, and the term of the length; scalar.

    patches: (images, patches, hidden); words: (words, hidden); weights: (images, words), 0 where a word is not said.
    """
    mean = words.mean(0)
    patches, words = patches - mean, words - mean
    cosines = functional.normalize(patches, dim=-1) @ functional.normalize(words, dim=-1).T
    log_likelihood = (SCALE * cosines).log_softmax(-1).logsumexp(1) - math.log(patches.shape[1])
    lengths = patches.norm(dim=-1).log() - words.norm(dim=-1).mean().log()
    return -(weights * log_likelihood).sum() / weights.sum() + NORM_WEIGHT * lengths.square().mean()


def sample_numbers(input_ids: Tensor, sample_lengths: Sequence[int] | None) -> Tensor:
    """The sample of each token, of the shape of `input_ids`: its row, or its place in a packed row."""
    if sample_lengths is None:
        return torch.arange(len(input_ids), device=input_ids.device)[:, None].expand_as(input_ids)
    lengths = torch.tensor(sample_lengths, device=input_ids.device)
    return torch.arange(len(lengths), device=input_ids.device).repeat_interleave(lengths)[None]
