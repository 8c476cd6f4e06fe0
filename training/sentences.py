"""Sentences in which every name is labelled, for training the sample NER model."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from training import templates
from training.entity_names import EntityNames
from training.facts import FACT_KINDS, FactNarrator
from training.templates import Passage, Span

NAME_KINDS: Final = ("PER", "LOC", "ORG", "MISC")

_GRAMMAR: Final = templates.read_grammar(Path(__file__).with_suffix(".txt"))
_FACT_PROBABILITY: Final = 0.35  # share of the sentences that are facts, as in the sample question-answering model
_SENTENCE_COUNTS: Final = (1, 1, 1, 2, 2, 3, 6)  # sentences in a text


def labelled_sentences(seed: int, *, held_out: bool = False) -> Iterator[Passage]:
    """Yield texts without end, with a span for every name; held-out ones have other names and sentences."""
    rng = random.Random(f"{seed}/{held_out}")
    while True:
        yield _roughen(
            templates.join_passages([_draw_sentence(rng, held_out) for _ in range(rng.choice(_SENTENCE_COUNTS))]), rng
        )


def _draw_sentence(rng: random.Random, held_out: bool) -> Passage:
    if rng.random() < _FACT_PROBABILITY:
        passage = FactNarrator(rng, held_out=held_out).draw_fact(rng.choice(FACT_KINDS)).passage
    else:
        skeleton = templates.draw_in_split(_GRAMMAR["say"], _GRAMMAR, rng, from_held_out=held_out)
        cast = EntityNames(rng, held_out=held_out)
        end = "" if skeleton.endswith("?") else rng.choice("......!")
        names = {slot: cast.draw(slot) for slot in templates.open_slots(skeleton)}
        passage = templates.fill_open_slots(f"{skeleton}{end}", names)
    kinds = ((span, span.slot.rstrip("0123456789")) for span in passage.spans)
    return Passage(passage.text, tuple(Span(span.start, span.end, kind) for span, kind in kinds if kind in NAME_KINDS))


def _roughen(passage: Passage, rng: random.Random) -> Passage:
    """Drop the last full stop or lower-case the first word, as people do."""
    text = passage.text
    if rng.random() < 0.3:
        text = text.removesuffix(".")
        end = len(text)
        if any(span.end > end for span in passage.spans):  # "Sun Corp." keeps its full stop
            return passage
    if rng.random() < 0.1 and not any(span.start == 0 for span in passage.spans):
        text = text[:1].lower() + text[1:]
    return Passage(text, passage.spans)
