"""Questions about a scene: a maker takes (scene, rng, stock) and returns a `Question`, or None if none is possible."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from vrx.small import knowledge
from vrx.small.pictures import known_names
from vrx.small.scenes import COLOURS, CORNERS, PLACES, SIDE, Box, Scene, Thing
from vrx.small.stock import Stock

LETTERS = "ABCD"
SHORT_PROMPT = "{question}\nAnswer in a word or two."
LETTER_PROMPT = "{question}\nAnswer with the letter."
BOX_PROMPT = "Give the box of the {question}."
RELATIONS = {"to the left of": (-1, 0), "to the right of": (1, 0), "above": (0, -1), "below": (0, 1)}
NOTHING = "nothing"


@dataclass(frozen=True)
class Question:
    """A question with its right answer, which is one of `choices` in a multiple-choice question.

    context: the words of the picture, as TextVQA's OCR tokens; box: of the thing in question, in pixels.
    """

    text: str
    answer: str
    kind: str
    choices: tuple[str, ...] = ()
    context: str = ""
    box: Box | None = None


Maker = Callable[[Scene, random.Random, Stock], Question | None]


def recognition(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """The thing at a place or on a card."""
    thing = rng.choice(scene.things)
    where = f"on the {thing.colour} card" if rng.random() < 0.5 else _at(thing.place)
    return Question(f"What is {where}?", thing.name, "object_recognition")


def colour(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """The colour of the card that a thing is on."""
    thing = rng.choice(scene.things)
    return Question(f"What color is the card of the {thing.name}?", thing.colour, "color")


def position(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """The place of a thing."""
    thing = rng.choice(scene.things)
    return Question(f"Where is the {thing.name}?", thing.place, "positional_reasoning")


def presence(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """Whether a thing is there; one time out of two it is not."""
    if rng.random() < 0.5:
        return Question(f"Is there {knowledge.article(rng.choice(scene.things).name)}?", "yes", "object_presence")
    absent = stock.others(rng, 1, besides=_names(scene))[0]
    return Question(f"Is there {knowledge.article(absent)}?", "no", "object_presence")


def count(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """The number of all things, or of those of a category that is there."""
    if rng.random() < 0.5:
        return Question("How many cards are there?", str(len(scene.things)), "counting")
    category = knowledge.category(rng.choice(scene.things).name)
    number = sum(knowledge.category(thing.name) == category for thing in scene.things)
    return Question(f"How many cards show {knowledge.article(category)}?", str(number), "counting")


def relation(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """The neighbour of a thing in a corner; where there is none, the answer is "nothing", one time out of four."""
    candidates = []
    for thing in scene.things:
        for words, (right, down) in RELATIONS.items() if thing.place in CORNERS else ():
            column, row = CORNERS[thing.place][0] + right, CORNERS[thing.place][1] + down
            place = next((name for name, position in CORNERS.items() if position == (column, row)), None)
            if place is not None:
                other = scene.at(place)
                answer = other.name if other else NOTHING
                candidates.append(Question(f"What is {words} the {thing.name}?", answer, "relation"))
    filled = [question for question in candidates if question.answer != NOTHING]
    candidates = filled if filled and rng.random() < 0.75 else candidates
    return rng.choice(candidates) if candidates else None


def region(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """The box of a thing, named or known by its card."""
    thing = rng.choice(scene.things)
    name = thing.name if rng.random() < 0.7 else f"thing on the {thing.colour} card"
    return Question(name, box_text(thing.box), "box", box=thing.box)


def choice(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """Multiple choice with four options about a thing, its card or its place."""
    maker = rng.choice((recognition, colour, position))
    question = maker(scene, rng, stock)
    assert question is not None
    pools = {
        "object_recognition": stock.others(rng, 3, besides=_names(scene)),
        "color": list(COLOURS),
        "positional_reasoning": list(PLACES),
    }
    return with_choices(question, pools[question.kind], rng)


def science(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """What the picture shows and what one knows: a trait that one thing of the picture has, or a category.

    Of the four options two have the trait and two are in the picture, so that either alone leaves two.
    """
    if rng.random() < 0.3:
        thing = rng.choice(scene.things)
        question = Question(f"What kind of thing is {_at(thing.place)}?", knowledge.category(thing.name), "category")
        return with_choices(question, sorted(set(known_names().category.values())), rng)
    traits = list(known_names().traits.items())
    rng.shuffle(traits)
    shown = _names(scene)
    for trait, (has, lacks) in traits:
        right, wrong = [name for name in shown if name in has], [name for name in shown if name in lacks]
        absent_has = [name for name in stock.names if name in has and name not in shown]
        absent_lacks = [name for name in stock.names if name in lacks and name not in shown]
        if len(right) == 1 and wrong and absent_has and absent_lacks:
            options = [right[0], *map(rng.choice, (wrong, absent_has, absent_lacks))]
            rng.shuffle(options)
            return Question(f"Which thing in the picture {trait}?", right[0], "trait", tuple(options))
    return None


def word(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """The word below a thing; the prompt lists all words of the picture in random order."""
    labelled = [thing for thing in scene.things if thing.word]
    if not labelled:
        return None
    thing = rng.choice(labelled)
    words = [thing.word for thing in labelled]
    rng.shuffle(words)
    where = f"the {thing.name}" if rng.random() < 0.6 else f"the {thing.colour} card"
    context = f"Reference OCR token: {', '.join(words)}"
    return Question(f"What is the word below {where}?", thing.word, "word", context=context)


def cover(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """Title or author of a book."""
    if not scene.title:
        return None
    if rng.random() < 0.6:
        return Question("What is the title of this book?", scene.title, "title")
    return Question("Who is the author of this book?", scene.author, "author")


def line(scene: Scene, rng: random.Random, stock: Stock) -> Question | None:
    """A line of a page, or the number of a word."""
    if not scene.lines:
        return None
    number = rng.randrange(len(scene.lines))
    text, value = scene.lines[number]
    if rng.random() < 0.5:
        return Question(f"What is in line {number + 1}?", f"{text} {value}", "line")
    return Question(f"What number is next to {text}?", str(value), "number")


def description(scene: Scene, rng: random.Random, stock: Stock) -> Question:
    """All that the picture shows, as a caption."""
    if scene.lines:
        answer = "a page with the lines " + ", ".join(f"{text} {value}" for text, value in scene.lines)
    elif scene.title:
        shown = knowledge.article(scene.things[0].name)
        answer = f'a book "{scene.title}" by {scene.author} with {shown} on a {scene.things[0].colour} card'
    else:
        answer = ", ".join(map(_caption, scene.things))
    return Question("Describe the picture.", answer, "description")


def with_choices(question: Question, pool: list[str], rng: random.Random) -> Question:
    """The question with its answer among four options."""
    choices = [question.answer, *rng.sample([option for option in pool if option != question.answer], 3)]
    rng.shuffle(choices)
    return replace(question, choices=tuple(choices))


def box_text(box: Box) -> str:
    """The corners of a box as fractions of the picture: `[0.33, 0.00, 0.67, 0.33]`."""
    return "[" + ", ".join(f"{value / SIDE:.2f}" for value in box) + "]"


def prompt(question: Question) -> str:
    """The question as a user turn; `reply(question)` is the right reply."""
    if question.kind == "box":
        return BOX_PROMPT.replace("{question}", question.text)
    if question.kind == "description":
        return question.text
    lines = [question.text, *([question.context] if question.context else [])]
    lines += [f"{letter}. {text}" for letter, text in zip(LETTERS, question.choices, strict=False)]
    template = LETTER_PROMPT if question.choices else SHORT_PROMPT
    return template.replace("{question}", "\n".join(lines))


def reply(question: Question) -> str:
    """The right reply: the letter of a choice, else the answer."""
    return LETTERS[question.choices.index(question.answer)] if question.choices else question.answer


def _at(place: str) -> str:
    return "in the center" if place == "center" else f"at the {place}"


def _names(scene: Scene) -> list[str]:
    return [thing.name for thing in scene.things]


def _caption(thing: Thing) -> str:
    below = f' with the word "{thing.word}"' if thing.word else ""
    return f"{knowledge.article(thing.name)} on a {thing.colour} card {_at(thing.place)}{below}"


TYPED: tuple[Maker, ...] = (recognition, colour, position, presence, count)
THINGS: tuple[Maker, ...] = (*TYPED, relation, region, choice, science, description)
LABELLED: tuple[Maker, ...] = (word, word, recognition, region, description)
COVER: tuple[Maker, ...] = (cover, cover, recognition, description)
PAGE: tuple[Maker, ...] = (line, line, line, description)
