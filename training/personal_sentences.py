"""Sentences with personal data labelled in them, for training the sample guard of personal data."""

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from training import number_formats, templates
from training.entity_names import EntityNames
from training.everyday import everyday_texts
from training.reviews import reviews
from training.templates import Passage, Span

PERSONAL_KINDS: Final = ("PERSON", "ADDRESS", "EMAIL", "PHONE")

_GRAMMAR: Final = templates.read_grammar(Path(__file__).with_name("personal_data.txt"))
_MONTHS: Final = ("January", "March", "April", "June", "July", "September", "October", "December")
_SENTENCE_COUNTS: Final = (1, 1, 1, 2, 2, 3, 5)  # sentences in a text
_ORDINARY_PROBABILITY: Final = 0.25  # share of the sentences that come from other samples' texts
_MAX_ORDINARY_WORDS: Final = 40
_NAMES: Final = re.compile(r"\b(?:Anna|Tom|Maria|John|Peter|Sarah|Clara|Ben|Emma|Paul)\b")  # of the everyday texts


def personal_sentences(seed: int, *, held_out: bool = False) -> Iterator[Passage]:
    """Yield texts without end, with a span for all personal data; held-out ones have other names and sentences."""
    rng = random.Random(f"{seed}/{held_out}")
    opinions = (review.text for review in reviews(seed, 10**9, held_out=held_out))
    unnamed = (text for text in everyday_texts(seed, held_out=held_out) if not _NAMES.search(text))
    ordinary = (opinions, unnamed)
    while True:
        passages = []
        for _ in range(rng.choice(_SENTENCE_COUNTS)):
            if rng.random() < _ORDINARY_PROBABILITY:
                words = next(rng.choice(ordinary)).split(" ")[:_MAX_ORDINARY_WORDS]
                passages.append(Passage(" ".join(words)))
            else:
                passages.append(_draw_sentence(rng, held_out))
        yield templates.join_passages(passages)


def _draw_sentence(rng: random.Random, held_out: bool) -> Passage:
    skeleton = templates.draw_in_split(_GRAMMAR["say"], _GRAMMAR, rng, from_held_out=held_out)
    data = _PersonalData(rng, held_out)
    names = {slot: data.draw(slot) for slot in templates.open_slots(skeleton)}
    end = "" if skeleton[-1] in "?}" and rng.random() < 0.7 else rng.choice(("", ".", ".", ".", "!"))
    passage = templates.fill_open_slots(f"{skeleton}{end}", names)
    kinds = ((span, span.slot.rstrip("0123456789")) for span in passage.spans)
    return Passage(
        passage.text, tuple(Span(span.start, span.end, kind) for span, kind in kinds if kind in PERSONAL_KINDS)
    )


class _PersonalData:
    """Draws personal data and ordinary values for one sentence."""

    def __init__(self, rng: random.Random, held_out: bool) -> None:
        self._rng = rng
        self._names = EntityNames(rng, held_out=held_out)
        self._generators: dict[str, Callable[[], str]] = {
            "PERSON": lambda: self._names.draw("PER"),
            "ADDRESS": self._address,
            "EMAIL": self._email,
            "PHONE": self._phone,
            "DATE": lambda: number_formats.random_date(rng, _MONTHS),
        }

    def draw(self, slot: str) -> str:
        """Return a value for a slot: `PHONE`, or `PHONE2` for another number."""
        kind = slot.rstrip("0123456789")
        make = self._generators.get(kind)
        return make() if make else self._names.draw(slot)

    def _choose(self, key: str) -> str:
        return self._rng.choice(_GRAMMAR[key])

    def _address(self) -> str:
        rng, number = self._rng, str(self._rng.choice((self._rng.randint(1, 99), self._rng.randint(100, 2500))))
        number += rng.choice(("", "", "", "", "a", "B"))
        if rng.random() < 0.2:
            street = f"{self._choose('germanhead')}{self._choose('german')} {number}"
            code, separator = str(rng.randint(10_000, 99_999)), ", "
            town = f"{separator}{code} {self._town()}"
        else:
            tree = self._choose("tree") if rng.random() < 0.75 else self._names.draw("PER").split(" ")[-1]
            street = f"{number} {tree} {self._choose('street')}"
            town = f", {self._town()}{rng.choice(('', '', f' {rng.randint(10_000, 99_999)}', f', {self._postcode()}'))}"
        return street if rng.random() < 0.45 else street + town

    def _town(self) -> str:
        return self._choose("town") if self._rng.random() < 0.5 else self._names.draw("LOC")

    def _postcode(self) -> str:
        rng, letters = self._rng, "ABCDEFGHJKLMNOPRSTUW"
        return (
            f"{rng.choice(letters)}{rng.choice(letters)}{rng.randint(1, 20)} {rng.randint(1, 9)}{rng.choice(letters)}E"
        )

    def _email(self) -> str:
        rng = self._rng
        parts = self._names.draw("PER").replace(".", "").lower().split(" ")
        user = rng.choice((".", "_", "", "-")).join(parts) + rng.choice(("", "", str(rng.randint(1, 99))))
        return f"{user}@{self._choose('domain')}"

    def _phone(self) -> str:
        rng = self._rng

        def digits(count: int) -> str:
            return "".join(rng.choices("0123456789", k=count))

        return rng.choice(
            (
                f"+{rng.choice((1, 33, 39, 44, 49))} {digits(3)} {digits(rng.randint(4, 8))}",
                f"+{rng.choice((1, 44, 49))} {digits(2)} {digits(4)} {digits(4)}",
                f"0{digits(2)} {digits(4)} {digits(4)}",
                f"0{digits(3)}/{digits(6)}",
                f"0{digits(4)} {digits(6)}",
                f"({digits(3)}) {digits(3)}-{digits(4)}",
                f"{digits(3)}-{digits(3)}-{digits(4)}",
                f"{digits(3)}-{digits(4)}",
                f"0{digits(10)}",
            )
        )
