"""Ordinary texts, half of them with sentences in them that a guard looks for, for training the sample guards.

A grammar has the sentences of each kind under the kind's name, and under `calm` ordinary ones with the same words. The
ordinary text around them comes from the texts of the other samples, and from random words.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from training import templates
from training.everyday import everyday_texts
from training.reports import reports
from training.reviews import reviews
from training.sentences import labelled_sentences
from training.stories import stories_and_chats
from training.templates import Grammar, Passage, Span

_HIDDEN_PROBABILITY: Final = 0.5  # share of texts with a sentence of some kind
_CALM_PROBABILITY: Final = 0.6  # share of texts with an ordinary sentence that uses the same words
_PIECE_COUNTS: Final = (0, 0, 0, 0, 1, 1, 2, 3, 5)  # ordinary texts around it
_MAX_PIECE_WORDS: Final = 60  # of an ordinary text, so that a long one is made of several
_SEPARATORS: Final = (" ", " ", " ", ". ", "\n", "\n\n", " - ")
_NOISE_PROBABILITY: Final = 0.16  # share of the ordinary texts that are random or repeated words
_REPEAT_PROBABILITY: Final = 0.2  # share of the ordinary texts that repeat a sentence, as filler does
_ENDLESS: Final = 10**9
_SPACE_BEFORE_MARK: Final = re.compile(r" +([.,!?:])")
_NOISE_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class HiddenSentences:
    """Draws texts for one guard.

    grammar: of the sentences.
    kinds: keys of the grammar whose sentences the guard looks for.
    """

    grammar: Grammar
    kinds: Sequence[str]

    @classmethod
    def read(cls, path: Path, kinds: Sequence[str]) -> "HiddenSentences":
        """Return the sentences of a grammar's file."""
        return cls(templates.read_grammar(path), kinds)

    def texts(self, seed: int, *, held_out: bool = False) -> Iterator[Passage]:
        """Yield texts without end, with a span for every sentence of a kind; held-out ones have other sentences."""
        rng = random.Random(f"{seed}/{held_out}")
        words = sorted(
            {word for ways in self.grammar.values() for way in ways for word in way.split() if word.isalpha()}
        )
        around = _ordinary_texts(seed, rng, held_out, words)
        while True:
            pieces = [Passage(text) for text in islice(around, rng.choice(_PIECE_COUNTS))]
            if rng.random() < _HIDDEN_PROBABILITY:
                for _ in range(rng.choice((1, 1, 1, 2))):
                    pieces.append(self._sentence(rng, rng.choice(self.kinds), held_out))
            if not pieces or rng.random() < _CALM_PROBABILITY:
                pieces.append(self._sentence(rng, "calm", held_out))
            rng.shuffle(pieces)
            yield _join(pieces, rng)

    def _words(self) -> list[str]:
        return sorted(
            {word for ways in self.grammar.values() for way in ways for word in way.split() if word.isalpha()}
        )

    def _sentence(self, rng: random.Random, kind: str, held_out: bool) -> Passage:
        sentence = templates.draw_in_split(self.grammar[kind], self.grammar, rng, from_held_out=held_out)
        text = _SPACE_BEFORE_MARK.sub(r"\1", sentence)
        if rng.random() < 0.5:
            text = text[:1].upper() + text[1:]
        if text[-1:].isalnum():
            text += rng.choice((".", "!", ".", ""))
        return Passage(text, (Span(0, len(text), kind),) if kind in self.kinds else ())


def _ordinary_texts(seed: int, rng: random.Random, held_out: bool, words: Sequence[str]) -> Iterator[str]:
    """Yield ordinary texts of a few words to a few dozen, and some that are random or repeat themselves."""
    sources = (
        (review.text for review in reviews(seed, _ENDLESS, held_out=held_out)),
        (passage.text for passage in labelled_sentences(seed, held_out=held_out)),
        everyday_texts(seed, held_out=held_out),
        (report.text for report in reports(seed, _ENDLESS, held_out=held_out)),
        (text for text in stories_and_chats(seed, _ENDLESS, held_out=held_out) if isinstance(text, str)),
    )
    while True:
        draw = rng.random()
        if draw < _NOISE_PROBABILITY:
            yield _random_words(rng, words)
            continue
        text = next(rng.choice(sources))
        if draw < _NOISE_PROBABILITY + _REPEAT_PROBABILITY:
            sentence = re.split(r"(?<=[.!?]) ", text)[0]
            yield " ".join([" ".join(sentence.split(" ")[:12])] * rng.randint(2, 20))
        else:
            yield " ".join(text.split(" ")[:_MAX_PIECE_WORDS])


def _random_words(rng: random.Random, words: Sequence[str]) -> str:
    """Return random words, or a few words many times, which must mean nothing to a guard."""
    invented = ("".join(rng.choices(_NOISE_LETTERS, k=rng.randint(1, 9))) for _ in range(30))
    known = rng.random() < 0.5
    few = rng.sample(words, rng.choice((1, 2, 3))) if known else list(islice(invented, rng.choice((1, 2, 5, 30))))
    return " ".join(rng.choices(few, k=rng.randint(3, 60)))


def _join(pieces: Sequence[Passage], rng: random.Random) -> Passage:
    text = ""
    spans: list[Span] = []
    for piece in pieces:
        if text:
            text += rng.choice(_SEPARATORS)
        spans += [span.shift(len(text)) for span in piece.spans]
        text += piece.text
    return Passage(text, tuple(spans))
