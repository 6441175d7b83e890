"""Samples with the pictures of other questions: what a score is worth without the right picture."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from vrx.config.errors import UserError
from vrx.evaluation.families import Sample
from vrx.runs.content_digest import image_digest

SEED = 0


def with_other_images(name: str, samples: Sequence[Sample]) -> list[Sample]:
    """All samples of a benchmark, each with the picture of another; those without a picture as they are.

    The pictures, by their content, are put in a random circle, and each gives way to the next: no question keeps its
    own, all questions of a picture, and all rotations of a question, get the same other one. It is the same for every
    run. `UserError` where there is one picture only.
    """
    paths = {image_digest(sample.image): sample.image for sample in samples if sample.image}
    if not paths:
        return list(samples)
    if len(paths) == 1:
        raise UserError(
            f"eval.shuffle_images=true: all questions of {name} have the same picture; leave it out of benchmark"
        )
    circle = sorted(paths)
    random.Random(SEED).shuffle(circle)
    following = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
    return [
        replace(sample, image=paths[following[image_digest(sample.image)]]) if sample.image else sample
        for sample in samples
    ]
