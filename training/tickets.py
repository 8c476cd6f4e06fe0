"""Tickets to a shop, searches for them and the shop's answers, by subject; the words are in tickets.txt.

A subject is a fault of a thing ("the kettle leaks") or a question about an order. Two texts of one subject say the
same in other words, which is all that the sample embedder and the sample ranking model have to know. The last sentence
of each list is held out.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training import templates

_TEXT: Final = Path(__file__).with_suffix(".txt").read_text("utf-8")
_SECTIONS: Final = {
    name: templates.parse_grammar(section)
    for name, section in (part.split("]\n", 1) for part in re.split(r"^\[", _TEXT, flags=re.MULTILINE)[1:])
}
_THINGS: Final = _SECTIONS.pop("things")
_FRAMES: Final = _SECTIONS.pop("frames")
MATTERS: Final = tuple(_SECTIONS)
THINGS: Final = tuple(_THINGS)

_ELECTRIC: Final = (
    "printer laptop phone tablet television headset router camera watch speaker lamp kettle coffee fridge washer "
    "dishwasher oven vacuum drill mower"
)
_THINGS_BY_NEED: Final = {
    "any": THINGS,
    "electric": tuple(_ELECTRIC.split()),
    "battery": ("laptop", "phone", "tablet", "headset", "camera", "watch", "speaker", "vacuum", "drill", "bicycle"),
    "network": ("printer", "laptop", "phone", "tablet", "television", "headset", "router", "camera", "speaker"),
    "screen": ("laptop", "phone", "tablet", "television", "camera", "watch"),
    "software": ("laptop", "phone", "tablet", "television", "watch", "router"),
    "water": ("kettle", "coffee", "fridge", "washer", "dishwasher"),
    "printer": ("printer",),
    "clothes": ("dress", "jacket"),
    "fabric": ("sofa", "bed", "chair", "dress", "jacket"),
    "furniture": ("chair", "sofa", "bed", "bicycle", "toy"),
}
_OPENING_PROBABILITY: Final = 0.3
_CLOSING_PROBABILITY: Final = 0.35
_PASSAGE_KINDS: Final = ("say", "say", "help")
_ARTICLE_BEFORE_VOWEL: Final = re.compile(r"\b([Aa]) (?=[aeiou])")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a text is about: a matter, and the thing that has it if it is a fault."""

    matter: str
    thing: str = ""


def _things_of(matter: str) -> tuple[str, ...]:
    needs = _SECTIONS[matter].get("needs")
    return _THINGS_BY_NEED[needs[0]] if needs else ("",)


SUBJECTS: Final = tuple(Subject(matter, thing) for matter in MATTERS for thing in _things_of(matter))


def draw_subject(rng: random.Random) -> Subject:
    """Return a subject; every matter is as likely as the others, however many things it knows."""
    matter = rng.choice(MATTERS)
    return Subject(matter, rng.choice(_things_of(matter)))


def draw_query(rng: random.Random, subject: Subject, *, held_out: bool = False) -> str:
    """Return what somebody types into a search field; held-out ones are worded as no others."""
    return _draw_sentence(rng, subject, "ask", held_out)


def draw_passage(rng: random.Random, subject: Subject, *, held_out: bool = False) -> str:
    """Return a ticket, or the shop's answer, on the subject; held-out ones are worded as no others."""
    kind = rng.choice(_PASSAGE_KINDS)
    text = _draw_sentence(rng, subject, kind, held_out)
    if kind == "say" and rng.random() < _OPENING_PROBABILITY:
        text = f"{templates.expand_slots(rng.choice(_FRAMES['open']), _FRAMES, rng)} {text}"
    if kind == "say" and rng.random() < _CLOSING_PROBABILITY:
        text = f"{text} {templates.expand_slots(rng.choice(_FRAMES['close']), _FRAMES, rng)}"
    return text


def _draw_sentence(rng: random.Random, subject: Subject, kind: str, held_out: bool) -> str:
    *learned, last = _SECTIONS[subject.matter][kind]
    pattern = last if held_out else rng.choice(learned)
    if not subject.thing:
        return pattern
    text = pattern.replace("{it}", rng.choice(_THINGS[subject.thing]))
    return _ARTICLE_BEFORE_VOWEL.sub(r"\1n ", text)
