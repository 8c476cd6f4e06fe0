"""Grammars that write text: lists of ways to fill a slot, which may hold slots again.

A line `key: a | b` lists ways to fill the slot `{key}`; an indented line goes on with the key above. `{3..9}` is a
number. A slot that ends in a digit is remembered: every `{town1}` of a text is the same town, and `{town2}` another.
"""

import random
import re
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

_SLOT: Final = re.compile(r"\{([^{}]+)\}")
_REMEMBERED: Final = re.compile(r"(.*[^\d.])\d")
_NUMBER: Final = re.compile(r"(\d+)\.\.(\d+)")
_VOWEL_NEXT: Final = re.compile(r"\b([Aa]) (?=[aeiouAEIO])")
_BUCKETS: Final = 8  # one name in eight is kept for held-out texts

_LETTERS: Final = "etaoinshrdlucmfwypvbgk"

Ways = Mapping[str, tuple[str, ...]]


def ways_in(path: Path) -> Ways:
    """Read a grammar file and return each key's ways to fill it; a line that starts with # is a comment."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\n +", " ", "\n".join(lines))
    pairs = (line.split(":", 1) for line in joined.splitlines() if line)
    return {key: tuple(way.strip() for way in f"{ways} ".split("| ")) for key, ways in pairs}


class Writer:
    """Fills the slots of one text and remembers what it chose for the numbered ones.

    Keys in `apart` (names, say) are split by a checksum of what they come out as: a held-out text has only such names
    as no learned text has, so that a model that does well on them has learned to copy and not to recall.
    """

    def __init__(self, ways: Ways, rng: random.Random, *, held_out: bool = False, apart: Collection[str] = ()) -> None:
        self.chosen: dict[str, str] = {}
        self._ways = ways
        self._rng = rng
        self._held_out = held_out
        self._apart = apart

    def write(self, key: str) -> str:
        """Choose one of a key's ways and fill its slots."""
        return self.fill(self._rng.choice(self._ways[key]))

    def fill(self, pattern: str) -> str:
        """Fill every slot of the pattern, and mend "a" before a vowel."""
        filled = _SLOT.sub(lambda slot: self._slot(slot[1]), pattern)
        return _VOWEL_NEXT.sub(r"\1n ", re.sub(r" +", " ", filled)).strip()

    def _slot(self, name: str) -> str:
        if number := _NUMBER.fullmatch(name):
            return str(self._rng.randint(int(number[1]), int(number[2])))
        if remembered := _REMEMBERED.fullmatch(name):
            if name not in self.chosen:
                self.chosen[name] = self._another(remembered[1])
            return self.chosen[name]
        return self.write(name)

    def _another(self, key: str) -> str:
        """Draw until it differs from what the text already has, and lies on this side of the split."""
        while True:
            drawn = self.write(key)
            right_side = key not in self._apart or bucketed(drawn) == self._held_out
            if right_side and drawn not in self.chosen.values():
                return drawn


def bucketed(text: str) -> bool:
    """Tell whether the text belongs to the held-out eighth."""
    return zlib.crc32(text.encode()) % _BUCKETS == 0


def strange_word(rng: random.Random) -> str:
    """Return letters at random, or a number: what nobody has seen can only be copied."""
    if rng.random() < 0.15:
        return str(rng.randint(1, 9999))
    word = "".join(rng.choices(_LETTERS, k=rng.randint(2, 9)))
    return word.capitalize() if rng.random() < 0.4 else word
