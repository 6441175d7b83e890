"""What is known about the things without any picture: categories, traits, and text that states them."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Sequence

import yaml

from vrx.small.pictures import NAMES_FILE, known_names

SINGULAR_ENDINGS = ("ss", "us")


def category(name: str) -> str:
    """The category of a thing."""
    return known_names().category[name]


def article(name: str) -> str:
    """A name with its indefinite article, where it takes one: "an owl", "socks", "milk"."""
    if name in _uncountable() or is_plural(name):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def is_plural(name: str) -> bool:
    """Whether a name is plural, such as "socks"."""
    return name.endswith("s") and not name.endswith(SINGULAR_ENDINGS)


def trait_choice(rng: random.Random, names: Sequence[str]) -> tuple[str, str, tuple[str, ...]]:
    """(question, answer, four options) about a trait that one option has; no picture is needed."""
    while True:
        trait = rng.choice(list(known_names().traits))
        has, lacks = known_names().traits[trait]
        right, wrong = [name for name in names if name in has], [name for name in names if name in lacks]
        if right and len(wrong) >= 3:
            answer = rng.choice(right)
            options = [answer, *rng.sample(wrong, 3)]
            rng.shuffle(options)
            return f"Which of these {trait}?", answer, tuple(options)


def category_choice(rng: random.Random, names: Sequence[str]) -> tuple[str, str, tuple[str, ...]]:
    """(question, answer, four options) about the category of a thing."""
    name = rng.choice(names)
    others = sorted(set(known_names().category.values()) - {category(name)})
    options = [category(name), *rng.sample(others, 3)]
    rng.shuffle(options)
    verb = "are" if is_plural(name) else "is"
    return f"What kind of thing {verb} {article(name)}?", category(name), tuple(options)


def paragraph(rng: random.Random, names: Iterable[str], *, num_things: int = 4) -> str:
    """A few true sentences about random things: "An eagle is an animal. It can fly. …"."""
    countable = [name for name in names if not is_plural(name) and name not in _uncountable()]
    sentences = []
    for name in rng.sample(countable, num_things):
        subject = article(name)
        sentences.append(f"{subject[0].upper()}{subject[1:]} is {article(category(name))}.")
        sentences += [f"It {trait}." for trait, (has, _) in known_names().traits.items() if name in has]
    return " ".join(sentences)


@functools.cache
def _uncountable() -> frozenset[str]:
    return frozenset(yaml.safe_load(NAMES_FILE.read_text(encoding="utf-8"))["uncountable"])
