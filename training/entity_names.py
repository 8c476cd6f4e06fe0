"""Names and values for generated texts: well-known names, invented ones, dates, amounts and things.

Half of the names are built from syllables, so that a model learns to recognize a name by shape and context. Names in
held-out texts occur in no training text.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from training import number_formats, templates

_NAMES: Final = templates.read_grammar(Path(__file__).with_suffix(".txt"))
_INITIALS: Final = "ABCDEFGHIKLMNOPRSTUVWZ"
_HELD_OUT_ONE_IN: Final = 6


class EntityNames:
    """Draws names and values for one text, none of them twice."""

    def __init__(self, rng: random.Random, *, held_out: bool) -> None:
        self._rng = rng
        self._held_out = held_out
        self._used: set[str] = set()
        self._generators: dict[str, Callable[[], str]] = {
            "PER": self._person,
            "LOC": self._place,
            "ORG": self._organisation,
            "MISC": self._miscellaneous,
            "DATE": lambda: number_formats.random_date(rng, _NAMES["month"]),
            "YEAR": lambda: str(rng.randint(1750, 2035)),
            "MONEY": lambda: number_formats.random_amount(rng),
            "NUMBER": lambda: number_formats.random_number(rng, _NAMES["number"]),
            "THING": lambda: f"{self._optional('shade')}{self._choose('thing')}",
            "JOB": lambda: f"{self._optional('rank')}{self._choose('job')}",
            "TIME": lambda: number_formats.random_time(rng),
        }

    def draw(self, slot: str) -> str:
        """Return a value for a slot: `PER`, or `PER2` for another person."""
        kind = slot.rstrip("0123456789")
        make = self._generators.get(kind) or (lambda: self._choose(kind.lower()))
        while (name := make()) in self._used:
            pass
        self._used.add(name)
        return name

    def _choose(self, key: str) -> str:
        return self._rng.choice(_NAMES[key])

    def _optional(self, key: str) -> str:
        return f"{self._choose(key)} " if self._rng.random() < 0.3 else ""

    def _listed_name(self, key: str) -> str:
        return self._draw_in_split(lambda: self._choose(key))

    def _invented_name(self, kind: str) -> str:
        return self._draw_in_split(lambda: self._random_syllables(kind))

    def _draw_in_split(self, make: Callable[[], str]) -> str:
        while templates.is_held_out(name := make(), _HELD_OUT_ONE_IN) != self._held_out:
            pass
        return name

    def _random_syllables(self, kind: str) -> str:
        rng = self._rng
        body = "".join(
            self._choose("onset") + self._choose("vowel") + self._choose("coda")
            for _ in range(rng.choice((1, 1, 1, 2, 2)))
        )
        if rng.random() < 0.3:
            body = rng.choice("aeiouAEIOU").lower() + body
        return (body + self._choose(f"end{kind}")).capitalize()

    def _listed_or_invented(self, key: str, kind: str, invented_probability: float = 0.5) -> str:
        return self._invented_name(kind) if self._rng.random() < invented_probability else self._listed_name(key)

    def _person(self) -> str:
        first = self._listed_or_invented("first", "PER")
        if self._rng.random() < 0.55:
            return first
        initial = f"{self._rng.choice('ABCDEFGHJKLMPRSTW')}. " if self._rng.random() < 0.08 else ""
        return f"{first} {initial}{self._listed_or_invented('last', 'PER')}"

    def _place(self) -> str:
        draw = self._rng.random()
        if draw < 0.45:
            return self._listed_name(self._rng.choice(("city", "city", "country")))
        name = self._invented_name("LOC")
        if draw < 0.85:
            return name
        return self._choose("placename").replace("~", name)

    def _organisation(self) -> str:
        draw = self._rng.random()
        if draw < 0.25:
            return self._listed_name("brand")
        if draw < 0.35:
            return self._draw_in_split(lambda: "".join(self._rng.choices(_INITIALS, k=self._rng.choice((2, 3, 3, 4)))))
        if draw < 0.42:
            return f"University of {self._listed_or_invented('city', 'LOC')}"
        if draw < 0.55:
            return self._invented_name("ORG")
        stem = self._listed_or_invented("stem", "ORG", 0.35)
        if self._rng.random() < 0.45:
            stem = f"{stem} {self._listed_or_invented('stem', 'ORG', 0.2)}"
        return f"{stem} {self._choose('suffix')}"

    def _miscellaneous(self) -> str:
        draw = self._rng.random()
        if draw < 0.45:
            return self._listed_name("nationality")
        if draw < 0.6:
            return f"{self._listed_or_invented('city', 'LOC')} {self._choose('cup')}"
        return self._listed_name(self._rng.choice(("event", "work")))
