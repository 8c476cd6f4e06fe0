"""Generated news reports with the summary that goes with each: what the sample summarization model learns from.

The grammar is in reports.txt. A quarter of the learned reports are of no topic at all but strange words in sentences,
and their summary is the first sentence: so the model learns to copy letters that it has never seen together.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.grammar import Writer, strange_word, ways_in

_FOLDER: Final = Path(__file__).parent
_WAYS: Final = {**ways_in(_FOLDER / "names.txt"), **ways_in(_FOLDER / "reports.txt")}
_TOPICS: Final = _WAYS["topics"]
_NAMES: Final = ("town", "last", "person", "club", "firm")
_WORDS: Final = tuple(
    dict.fromkeys(word for ways in _WAYS.values() for way in ways for word in way.split() if word.isalpha())
)
_START: Final = re.compile(r"(?:^|[.!?] )\w")


@dataclass(frozen=True, slots=True)
class Report:
    """A report of 5 to 12 sentences, its summary, and the facts (names, numbers, days) that the summary holds."""

    text: str
    summary: str
    facts: tuple[str, ...]


def reports(seed: int, count: int, *, held_out: bool = False) -> Iterator[Report]:
    """Yield `count` reports; held-out ones are all of known topics and have names that no learned one has."""
    rng = random.Random(f"{seed}/{held_out}")
    for _ in range(count):
        if held_out or rng.random() < 0.75:
            yield _report(rng, held_out)
        else:
            yield _strange(rng)


def _report(rng: random.Random, held_out: bool) -> Report:
    writer = Writer(_WAYS, rng, held_out=held_out, apart=_NAMES)
    topic = rng.choice(_TOPICS)
    first, *others = (_sentences(writer.write(f"{topic}.{index}")) for index in range(1, 5))
    asides = dict.fromkeys(_sentences(writer.write("aside")) for _ in range(rng.randint(1, 8)))
    others += asides
    summary = _sentences(writer.write(f"{topic}.sum"))
    facts = tuple(fact for fact in writer.chosen.values() if fact.lower() in summary.lower())
    return Report(" ".join((first, *rng.sample(others, len(others)))), summary, facts)


def _strange(rng: random.Random) -> Report:
    sentences = [_babble(rng) for _ in range(rng.randint(2, 6))]
    return Report(" ".join(sentences), sentences[0], ())


def _babble(rng: random.Random) -> str:
    """Known and unknown words at random, with the marks that sentences have."""
    words = [strange_word(rng) if rng.random() < 0.4 else rng.choice(_WORDS) for _ in range(rng.randint(3, 11))]
    marked = [f"{word}," if rng.random() < 0.1 else word for word in words[:-1]]
    return _sentences(" ".join((*marked, words[-1]))) + rng.choice("......!?")


def _sentences(text: str) -> str:
    return _START.sub(lambda start: start[0].upper(), text)
