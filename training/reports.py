"""Generated news reports with their summaries, for training the sample summarization model.

The grammar is in reports.txt. A quarter of the training reports are unknown words in sentences, summarized by their
first sentence. They teach the model to copy unseen letter sequences.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.grammar import GrammarExpander, random_word, read_grammar

_FOLDER: Final = Path(__file__).parent
_GRAMMAR: Final = {**read_grammar(_FOLDER / "names.txt"), **read_grammar(_FOLDER / "reports.txt")}
_TOPICS: Final = _GRAMMAR["topics"]
_NAME_KEYS: Final = ("town", "last", "person", "club", "firm")
_WORDS: Final = tuple(
    dict.fromkeys(word for ways in _GRAMMAR.values() for way in ways for word in way.split() if word.isalpha())
)
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?] )\w")


@dataclass(frozen=True, slots=True)
class Report:
    """A report of 5 to 12 sentences, its summary, and the facts (names, numbers, days) in the summary."""

    text: str
    summary: str
    facts: tuple[str, ...]


def reports(seed: int, count: int, *, held_out: bool = False) -> Iterator[Report]:
    """Yield `count` reports; held-out ones have known topics and names that no training report has."""
    rng = random.Random(f"{seed}/{held_out}")
    for _ in range(count):
        if held_out or rng.random() < 0.75:
            yield _draw_report(rng, held_out)
        else:
            yield _random_report(rng)


def _draw_report(rng: random.Random, held_out: bool) -> Report:
    writer = GrammarExpander(_GRAMMAR, rng, held_out=held_out, split_keys=_NAME_KEYS)
    topic = rng.choice(_TOPICS)
    first, *others = (_capitalize_sentences(writer.expand_key(f"{topic}.{index}")) for index in range(1, 5))
    asides = dict.fromkeys(_capitalize_sentences(writer.expand_key("aside")) for _ in range(rng.randint(1, 8)))
    others += asides
    summary = _capitalize_sentences(writer.expand_key(f"{topic}.sum"))
    facts = tuple(fact for fact in writer.values_by_slot.values() if fact.lower() in summary.lower())
    return Report(" ".join((first, *rng.sample(others, len(others)))), summary, facts)


def _random_report(rng: random.Random) -> Report:
    sentences = [_random_words(rng) for _ in range(rng.randint(2, 6))]
    return Report(" ".join(sentences), sentences[0], ())


def _random_words(rng: random.Random) -> str:
    words = [random_word(rng) if rng.random() < 0.4 else rng.choice(_WORDS) for _ in range(rng.randint(3, 11))]
    marked = [f"{word}," if rng.random() < 0.1 else word for word in words[:-1]]
    return _capitalize_sentences(" ".join((*marked, words[-1]))) + rng.choice("......!?")


def _capitalize_sentences(text: str) -> str:
    return _SENTENCE_START.sub(lambda start: start[0].upper(), text)
