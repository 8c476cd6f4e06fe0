"""Sentences with open slots, from a small grammar: `key: a | b` lists the alternatives of the slot `{key}`.

A slot in capitals (`{PER}`, `{LOC2}`) stays open until the caller fills it with a name, and its position is recorded.
The sentence with its open slots is a skeleton. The skeleton's checksum decides its side of the split, so that held-out
text shares no sentence with training text. In a grammar, an indented line continues the key above, and a line that
starts with # is a comment.
"""

import random
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SLOT: Final = re.compile(r"\{([a-z]\w*)\}")
_OPEN_SLOT: Final = re.compile(r"\{([A-Z]+\d?)\}")

Grammar = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of a text, and the slot that they fill."""

    start: int
    end: int
    slot: str

    def shift(self, offset: int) -> "Span":
        """Return the span moved by `offset` characters."""
        return Span(self.start + offset, self.end + offset, self.slot)


@dataclass(frozen=True, slots=True)
class Passage:
    """A text with the spans of its names."""

    text: str
    spans: tuple[Span, ...] = ()


def parse_grammar(grammar: str) -> dict[str, tuple[str, ...]]:
    """Return each key's alternatives."""
    lines = (line for line in re.sub(r"\n +", " ", grammar).splitlines() if line.strip() and line[0] != "#")
    pairs = (line.split(":", 1) for line in lines)
    return {key: tuple(way.strip() for way in re.split(r" ?\| ?", ways.strip())) for key, ways in pairs}


def read_grammar(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the grammar in a file."""
    return parse_grammar(path.read_text("utf-8"))


def expand_slots(pattern: str, grammar: Grammar, rng: random.Random) -> str:
    """Fill every slot but the open ones, at random and recursively."""
    filled = _SLOT.sub(lambda slot: expand_slots(rng.choice(grammar[slot[1]]), grammar, rng), pattern)
    return re.sub(r"  +", " ", filled).strip()


def open_slots(template: str) -> tuple[str, ...]:
    """Return the distinct names of the open slots, in the order of the text."""
    return tuple(dict.fromkeys(_OPEN_SLOT.findall(template)))


def fill_open_slots(template: str, names: Mapping[str, str]) -> Passage:
    """Fill the open slots with names, capitalize the start, and record each name's position."""
    text, done = "", 0
    spans: list[Span] = []
    for slot in _OPEN_SLOT.finditer(template):
        text += template[done : slot.start()]
        if text.endswith((" a ", "A ")) and names[slot[1]][0] in "aeiou":
            text = f"{text[:-1]}n "
        spans.append(Span(len(text), len(text) + len(names[slot[1]]), slot[1]))
        text += names[slot[1]]
        done = slot.end()
    text += template[done:]
    return Passage(text[:1].upper() + text[1:], tuple(spans))


def join_passages(passages: Sequence[Passage]) -> Passage:
    """Join passages with a blank between them."""
    text = ""
    spans: list[Span] = []
    for passage in passages:
        start = len(text) + 1 if text else 0
        text = f"{text} {passage.text}" if text else passage.text
        spans += [span.shift(start) for span in passage.spans]
    return Passage(text, tuple(spans))


def is_held_out(text: str, one_in: int) -> bool:
    """Return whether a text is on the held-out side of the split."""
    return zlib.crc32(text.encode()) % one_in == 0


def draw_in_split(
    patterns: Sequence[str], grammar: Grammar, rng: random.Random, *, from_held_out: bool, one_in: int = 8
) -> str:
    """Draw a skeleton from this side of the split: held-out or training."""
    while is_held_out(skeleton := expand_slots(rng.choice(patterns), grammar, rng), one_in) != from_held_out:
        pass
    return skeleton
