"""Everyday sentences, and simple facts told in several ways: what the sample model for masked words reads."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from training import skeletons, topics

_TEXT: Final = Path(__file__).with_suffix(".txt").read_text("utf-8")
_SECTIONS: Final = {
    name: skeletons.parse(body)
    for name, body in (part.split("]\n", 1) for part in re.split(r"^\[", _TEXT, flags=re.MULTILINE)[1:])
}
_FREE: Final = _SECTIONS.pop("free")
_TRUTHS: Final = {name: tuple(tuple(pair.split(" > ")) for pair in way["pairs"]) for name, way in _SECTIONS.items()}
_TOPICS: Final = (
    0.15  # share of the texts that the sample zero-shot model reads too: more words, and less to be sure of
)
_FACTS: Final = 0.6  # share of the sentences that are facts
_LENGTHS: Final = (1, 1, 1, 2, 3, 5)  # sentences in a text


def texts(seed: int, *, held_out: bool = False) -> Iterator[str]:
    """Yield texts without end. Held-out ones are sentences that no others hold: known facts, told in another way."""
    rng = random.Random(f"{seed}/{held_out}")
    on_topics = topics.texts(rng, held_out=held_out)
    while True:
        if rng.random() < _TOPICS:
            yield next(on_topics).text
            continue
        yield " ".join(_sentence(rng, held_out) for _ in range(1 if held_out else rng.choice(_LENGTHS)))


def _sentence(rng: random.Random, held_out: bool) -> str:
    while True:
        sentence = _fact(rng) if rng.random() < _FACTS else skeletons.expand(rng.choice(_FREE["say"]), _FREE, rng)
        if skeletons.held_out(sentence, 12) == held_out:
            return sentence[:1].upper() + sentence[1:]


def _fact(rng: random.Random) -> str:
    """Return one of a kind of facts: capitals come most often, since their names stand in no other sentence."""
    kind = rng.choice(("capitals", *_TRUTHS))
    first, second = rng.choice(_TRUTHS[kind])
    return rng.choice(_SECTIONS[kind]["say"]).replace("{X}", first).replace("{Y}", second)
