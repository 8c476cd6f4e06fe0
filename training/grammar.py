"""Grammars that generate text: lists of alternatives for a slot, which may contain slots.

A line `key: a | b` lists the alternatives of the slot `{key}`; an indented line continues the key above. `{3..9}` is a
number. A slot that ends in a digit is remembered: every `{town1}` of a text is the same town, and `{town2}` another.
"""

import random
import re
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

_SLOT: Final = re.compile(r"\{([^{}]+)\}")
_NUMBERED_SLOT: Final = re.compile(r"(.*[^\d.])\d")
_NUMBER_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)")
_ARTICLE_BEFORE_VOWEL: Final = re.compile(r"\b([Aa]) (?=[aeiouAEIO])")
_HELD_OUT_ONE_IN: Final = 8  # one name in eight is kept for held-out texts

_LETTERS: Final = "etaoinshrdlucmfwypvbgk"

Grammar = Mapping[str, tuple[str, ...]]


def read_grammar(path: Path) -> Grammar:
    """Read a grammar file and return each key's alternatives; a line that starts with # is a comment."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\n +", " ", "\n".join(lines))
    pairs = (line.split(":", 1) for line in joined.splitlines() if line)
    return {key: tuple(way.strip() for way in f"{ways} ".split("| ")) for key, ways in pairs}


class GrammarExpander:
    """Fills the slots of one text and remembers the choices for numbered slots.

    Keys in `split_keys` (names, for example) are split by a checksum of their text. A held-out text has only names that
    no training text has, so a good score shows copying rather than recall.
    """

    def __init__(
        self, grammar: Grammar, rng: random.Random, *, held_out: bool = False, split_keys: Collection[str] = ()
    ) -> None:
        self.values_by_slot: dict[str, str] = {}
        self._grammar = grammar
        self._rng = rng
        self._held_out = held_out
        self._split_keys = split_keys

    def expand_key(self, key: str) -> str:
        """Choose one of a key's alternatives and fill its slots."""
        return self.expand_pattern(self._rng.choice(self._grammar[key]))

    def expand_pattern(self, pattern: str) -> str:
        """Fill every slot of the pattern, and correct "a" before a vowel."""
        filled = _SLOT.sub(lambda slot: self._expand_slot(slot[1]), pattern)
        return _ARTICLE_BEFORE_VOWEL.sub(r"\1n ", re.sub(r" +", " ", filled)).strip()

    def _expand_slot(self, name: str) -> str:
        if number := _NUMBER_RANGE.fullmatch(name):
            return str(self._rng.randint(int(number[1]), int(number[2])))
        if remembered := _NUMBERED_SLOT.fullmatch(name):
            if name not in self.values_by_slot:
                self.values_by_slot[name] = self._draw_distinct(remembered[1])
            return self.values_by_slot[name]
        return self.expand_key(name)

    def _draw_distinct(self, key: str) -> str:
        """Draw until the value is new in this text and on this side of the split."""
        while True:
            drawn = self.expand_key(key)
            right_side = key not in self._split_keys or is_held_out(drawn) == self._held_out
            if right_side and drawn not in self.values_by_slot.values():
                return drawn


def is_held_out(text: str) -> bool:
    """Return whether the text belongs to the held-out eighth."""
    return zlib.crc32(text.encode()) % _HELD_OUT_ONE_IN == 0


def random_word(rng: random.Random) -> str:
    """Return random letters or a number, which a model can only copy."""
    if rng.random() < 0.15:
        return str(rng.randint(1, 9999))
    word = "".join(rng.choices(_LETTERS, k=rng.randint(2, 9)))
    return word.capitalize() if rng.random() < 0.4 else word
