"""Everyday sentences and rephrased simple facts, for training the sample fill-mask model."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from training import templates, topics

_TEXT: Final = Path(__file__).with_suffix(".txt").read_text("utf-8")
_SECTIONS: Final = {
    name: templates.parse_grammar(body)
    for name, body in (part.split("]\n", 1) for part in re.split(r"^\[", _TEXT, flags=re.MULTILINE)[1:])
}
_SENTENCE_GRAMMAR: Final = _SECTIONS.pop("free")
_FACT_PATTERNS: Final = {
    name: tuple(tuple(pair.split(" > ")) for pair in way["pairs"]) for name, way in _SECTIONS.items()
}
_TOPIC_PROBABILITY: Final = 0.15  # share of texts shared with the sample zero-shot model: more words, less certainty
_FACT_PROBABILITY: Final = 0.6  # share of the sentences that are facts
_SENTENCE_COUNTS: Final = (1, 1, 1, 2, 3, 5)  # sentences in a text


def everyday_texts(seed: int, *, held_out: bool = False) -> Iterator[str]:
    """Yield texts without end; held-out sentences occur in no other text and rephrase known facts."""
    rng = random.Random(f"{seed}/{held_out}")
    on_topics = topics.topic_texts(rng, held_out=held_out)
    while True:
        if rng.random() < _TOPIC_PROBABILITY:
            yield next(on_topics).text
            continue
        yield " ".join(_draw_sentence(rng, held_out) for _ in range(1 if held_out else rng.choice(_SENTENCE_COUNTS)))


def _draw_sentence(rng: random.Random, held_out: bool) -> str:
    while True:
        sentence = (
            _draw_fact(rng)
            if rng.random() < _FACT_PROBABILITY
            else templates.expand_slots(rng.choice(_SENTENCE_GRAMMAR["say"]), _SENTENCE_GRAMMAR, rng)
        )
        if templates.is_held_out(sentence, 12) == held_out:
            return sentence[:1].upper() + sentence[1:]


def _draw_fact(rng: random.Random) -> str:
    """Return a fact; capitals are the most frequent, because their names occur in no other sentence."""
    kind = rng.choice(("capitals", *_FACT_PATTERNS))
    first, second = rng.choice(_FACT_PATTERNS[kind])
    return rng.choice(_SECTIONS[kind]["say"]).replace("{X}", first).replace("{Y}", second)
