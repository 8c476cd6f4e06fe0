"""Sentences in which every name is known, of persons, places and so on: what the sample model for names reads."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from training import skeletons
from training.cast import Cast
from training.facts import KINDS, Storyteller
from training.skeletons import Passage, Span

NAME_KINDS: Final = ("PER", "LOC", "ORG", "MISC")

_WAYS: Final = skeletons.read(Path(__file__).with_suffix(".txt"))
_FACTS: Final = 0.35  # share of the sentences that are facts, as the sample model for questions reads them
_LENGTHS: Final = (1, 1, 1, 2, 2, 3, 6)  # sentences in a text


def sentences(seed: int, *, held_out: bool = False) -> Iterator[Passage]:
    """Yield texts without end, with a span for every name; held-out ones have other names in other sentences."""
    rng = random.Random(f"{seed}/{held_out}")
    while True:
        yield _roughen(skeletons.joined([_sentence(rng, held_out) for _ in range(rng.choice(_LENGTHS))]), rng)


def _sentence(rng: random.Random, held_out: bool) -> Passage:
    if rng.random() < _FACTS:
        passage = Storyteller(rng, held_out=held_out).fact(rng.choice(KINDS)).passage
    else:
        skeleton = skeletons.on_side(_WAYS["say"], _WAYS, rng, kept=held_out)
        cast = Cast(rng, held_out=held_out)
        end = "" if skeleton.endswith("?") else rng.choice("......!")
        names = {slot: cast.draw(slot) for slot in skeletons.open_slots(skeleton)}
        passage = skeletons.fill(f"{skeleton}{end}", names)
    kinds = ((span, span.slot.rstrip("0123456789")) for span in passage.spans)
    return Passage(passage.text, tuple(Span(span.start, span.end, kind) for span, kind in kinds if kind in NAME_KINDS))


def _roughen(passage: Passage, rng: random.Random) -> Passage:
    """Leave out the last full stop, or write the first word small, as people do."""
    text = passage.text
    if rng.random() < 0.3:
        text = text.removesuffix(".")
        end = len(text)
        if any(span.end > end for span in passage.spans):  # "Sun Corp." keeps its own
            return passage
    if rng.random() < 0.1 and not any(span.start == 0 for span in passage.spans):
        text = text[:1].lower() + text[1:]
    return Passage(text, passage.spans)
