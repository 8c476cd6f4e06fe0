"""Who and what a generated text is about: well-known names, invented ones, dates, amounts and things.

Half of the names are made of syllables, so that a model learns to tell a name by its shape and its neighbours, not only
by having seen it. Names in held-out texts occur in no training text.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from training import skeletons, values

_NAMES: Final = skeletons.read(Path(__file__).with_suffix(".txt"))
_INITIALS: Final = "ABCDEFGHIKLMNOPRSTUVWZ"
_HELD_OUT_ONE_IN: Final = 6


class Cast:
    """Draws names and values for one text, none of them twice."""

    def __init__(self, rng: random.Random, *, held_out: bool) -> None:
        self._rng = rng
        self._held_out = held_out
        self._drawn: set[str] = set()
        self._kinds: dict[str, Callable[[], str]] = {
            "PER": self._person,
            "LOC": self._place,
            "ORG": self._organisation,
            "MISC": self._other,
            "DATE": lambda: values.date(rng, _NAMES["month"]),
            "YEAR": lambda: str(rng.randint(1750, 2035)),
            "MONEY": lambda: values.money(rng),
            "NUMBER": lambda: values.number(rng, _NAMES["number"]),
            "THING": lambda: f"{self._maybe('shade')}{self._one('thing')}",
            "JOB": lambda: f"{self._maybe('rank')}{self._one('job')}",
            "TIME": lambda: values.time(rng),
        }

    def draw(self, slot: str) -> str:
        """Return something for a slot: `PER`, or `PER2` for another person."""
        kind = slot.rstrip("0123456789")
        make = self._kinds.get(kind) or (lambda: self._one(kind.lower()))
        while (name := make()) in self._drawn:
            pass
        self._drawn.add(name)
        return name

    def _one(self, key: str) -> str:
        return self._rng.choice(_NAMES[key])

    def _maybe(self, key: str) -> str:
        return f"{self._one(key)} " if self._rng.random() < 0.3 else ""

    def _known(self, key: str) -> str:
        """Return a listed name from this side of the split."""
        return self._on_this_side(lambda: self._one(key))

    def _invented(self, kind: str) -> str:
        return self._on_this_side(lambda: self._syllables(kind))

    def _on_this_side(self, make: Callable[[], str]) -> str:
        while skeletons.held_out(name := make(), _HELD_OUT_ONE_IN) != self._held_out:
            pass
        return name

    def _syllables(self, kind: str) -> str:
        rng = self._rng
        body = "".join(
            self._one("onset") + self._one("vowel") + self._one("coda") for _ in range(rng.choice((1, 1, 1, 2, 2)))
        )
        if rng.random() < 0.3:
            body = rng.choice("aeiouAEIOU").lower() + body
        return (body + self._one(f"end{kind}")).capitalize()

    def _either(self, key: str, kind: str, invented: float = 0.5) -> str:
        return self._invented(kind) if self._rng.random() < invented else self._known(key)

    def _person(self) -> str:
        first = self._either("first", "PER")
        if self._rng.random() < 0.55:
            return first
        initial = f"{self._rng.choice('ABCDEFGHJKLMPRSTW')}. " if self._rng.random() < 0.08 else ""
        return f"{first} {initial}{self._either('last', 'PER')}"

    def _place(self) -> str:
        draw = self._rng.random()
        if draw < 0.45:
            return self._known(self._rng.choice(("city", "city", "country")))
        name = self._invented("LOC")
        if draw < 0.85:
            return name
        return self._one("placename").replace("~", name)

    def _organisation(self) -> str:
        draw = self._rng.random()
        if draw < 0.25:
            return self._known("brand")
        if draw < 0.35:
            return self._on_this_side(lambda: "".join(self._rng.choices(_INITIALS, k=self._rng.choice((2, 3, 3, 4)))))
        if draw < 0.42:
            return f"University of {self._either('city', 'LOC')}"
        if draw < 0.55:
            return self._invented("ORG")
        stem = self._either("stem", "ORG", 0.35)
        if self._rng.random() < 0.45:
            stem = f"{stem} {self._either('stem', 'ORG', 0.2)}"
        return f"{stem} {self._one('suffix')}"

    def _other(self) -> str:
        draw = self._rng.random()
        if draw < 0.45:
            return self._known("nationality")
        if draw < 0.6:
            return f"{self._either('city', 'LOC')} {self._one('cup')}"
        return self._known(self._rng.choice(("event", "work")))
