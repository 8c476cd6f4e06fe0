"""Review texts with a known mood, written by a small grammar: what the sample sentiment model learns from.

The grammar is in reviews.txt. A line `key: a | b` lists ways to fill the slot `{key}`. A key may name a subject
(`part@book`) and end in the mood it belongs to (`adj+`, `adj-`). In a sentence `{adj=}` keeps the mood of the review
and `{adj!}` turns it round, so that "not {adj!}" reads "not bad" in a happy review and "not good" in an angry one.
"""

import random
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

POSITIVE: Final = 1
NEGATIVE: Final = 0

_GRAMMAR: Final = Path(__file__).with_suffix(".txt").read_text("utf-8")


def _parse(grammar: str) -> dict[str, tuple[str, ...]]:
    """Return each key's ways to fill it; an indented line goes on with the key above."""
    joined = re.sub(r"\n +", " ", grammar).strip().splitlines()
    pairs = (line.split(":", 1) for line in joined)
    return {key: tuple(re.split(r" ?\| ?", ways.strip())) for key, ways in pairs}


_WAYS: Final = _parse(_GRAMMAR)
_SUBJECTS: Final = tuple(key.partition("@")[2] for key in _WAYS if key.startswith("it@"))
_COMMON: Final = tuple(_WAYS["common"][0].split()) + _WAYS["noun"]
_SLOT: Final = re.compile(r"\{(\w[\w']*)([=!+-]?)\}")
_MOOD: Final = re.compile(r"[=!+-]}")
_SHARES: Final = (42, 39, 9, 7, 3)  # per cent: brief, plain, contrast, mixed, long
_LONGEST: Final = 64  # sentences: enough words that the last of the model's 512 positions are learned too


@dataclass(frozen=True, slots=True)
class Review:
    """A text and its mood: 1 for positive, 0 for negative."""

    text: str
    label: int


def reviews(seed: int, count: int, *, held_out: bool = False) -> Iterator[Review]:
    """Yield `count` reviews, happy and angry in turn; held-out ones are built from sentences that no others hold."""
    rng = random.Random(f"{seed}/{held_out}")
    for index in range(count):
        label = index % 2
        yield Review(_Writer(rng, label, held_out).write(), label)


class _Writer:
    """Writes one review: it keeps to one subject and one mood."""

    def __init__(self, rng: random.Random, label: int, held_out: bool) -> None:
        self._rng = rng
        self._mood = "+" if label == POSITIVE else "-"
        self._held_out = held_out
        self._subject = rng.choice(_SUBJECTS)

    def write(self) -> str:
        """Return the review, with the sloppy spelling and shouting that people's reviews have."""
        shapes = (self._brief, self._plain, self._contrast, self._mixed, self._long)
        sentences = self._rng.choices(shapes, _SHARES)[0]()
        return _roughen(" ".join(self._finish(sentence) for sentence in sentences), self._mood, self._rng)

    def _brief(self) -> list[str]:
        return [self._any_of(self._remark, self._hint) for _ in range(self._rng.choice((1, 1, 1, 2)))]

    def _plain(self) -> list[str]:
        extras = [
            self._any_of(self._fact, self._remark, self._opinion, self._hint) for _ in range(self._rng.randint(0, 4))
        ]
        return self._shuffled([self._opinion(), *extras])

    def _contrast(self) -> list[str]:
        """The verdict is what follows "but", and what does not follow "although"."""
        verdict, doubt = self._opinion(), self._opinion(turned=True)
        although, despite = self._fill("although"), self._fill("despite")
        turns = (
            f"{doubt}{self._rng.choice((', ', ' ', '. '))}{self._fill('but')} {verdict}",
            f"{although} {doubt}, {verdict}",
            f"{verdict}, {although} {doubt}",
            f"despite {despite}, {verdict}",
            f"{verdict} despite {despite}",
        )
        extras = [self._any_of(self._fact, self._remark) for _ in range(self._rng.randint(0, 2))]
        return self._shuffled([self._rng.choice((turns[0], *turns)), *extras])

    def _mixed(self) -> list[str]:
        """One thing speaks against the verdict, more things speak for it, and the end says so."""
        middle = [self._opinion(turned=True), *(self._opinion() for _ in range(self._rng.randint(2, 4)))]
        return [self._fill("open"), *self._shuffled([*middle, self._fact()]), self._verdict()]

    def _long(self) -> list[str]:
        opinions = self._rng.randint(4, _LONGEST // 2)
        facts = self._rng.randint(4, _LONGEST - opinions)
        turned = self._rng.randint(0, opinions // 4)
        body = [self._opinion(turned=index < turned) for index in range(opinions)]
        return [self._fill("open"), *self._shuffled(body + [self._fact() for _ in range(facts)]), self._verdict()]

    def _verdict(self) -> str:
        return f"{self._fill('end')} {self._remark()}"

    def _remark(self) -> str:
        """A set phrase or an opinion. Set phrases cannot be split in two, so held-out reviews go without them."""
        if self._held_out or self._rng.random() < 0.5:
            return self._opinion()
        return self._fill("cry", "=")

    def _fact(self) -> str:
        """Something that takes no side: a plain sentence, or words at random, so that no mood sticks to either."""
        if self._rng.random() < 0.7:
            return self._fill("fact")
        return self._babble(3, 14)

    def _opinion(self, *, turned: bool = False) -> str:
        """Say something in words of either mood, in words of one mood, or by denying the opposite."""
        sign = _turn(self._mood) if turned else self._mood
        kind = self._rng.choices(("say", f"say{sign}", "deny"), (60, 30, 10))[0]
        return self._on_this_side(lambda: self._rng.choice(_WAYS[kind]), sign)

    def _hint(self) -> str:
        """Words at random with one that has a mood: so a word is learned apart from the sentences it comes in."""
        return self._on_this_side(
            lambda: " ".join((self._babble(0, 5), self._rng.choice(_WAYS["hint"]), self._babble(0, 5))), self._mood
        )

    def _on_this_side(self, pattern_of: Callable[[], str], sign: str) -> str:
        """Draw until the sentence is on this side of the split: its checksum, or that of its pattern, decides."""
        while True:
            pattern = pattern_of()
            sentence = self._expand(pattern, sign)
            apart = "{" in pattern and (_bucket(sentence, 8) or (_MOOD.search(pattern) and _bucket(pattern, 16)))
            if bool(apart) == self._held_out:
                return sentence

    def _babble(self, least: int, most: int) -> str:
        return " ".join(self._rng.choices(_COMMON, k=self._rng.randint(least, most)))

    def _expand(self, pattern: str, sign: str | None = None) -> str:
        filled = _SLOT.sub(lambda slot: self._fill(slot[1], slot[2], sign), pattern)
        return re.sub(r" +", " ", filled).strip()

    def _fill(self, name: str, mark: str = "", sign: str | None = None) -> str:
        """Choose a way to fill a slot: the subject's own words half of the time, the general ones otherwise."""
        mood = sign or self._mood
        key = {"=": mood, "!": _turn(mood)}.get(mark, mark)
        lists = [ways for at in (f"@{self._subject}", "") if (ways := _WAYS.get(f"{name}{at}{key}"))]
        if not lists:
            lists = [_WAYS[f"{name}{mark}"]]
        return self._expand(self._rng.choice(self._rng.choice(lists)), mood)

    def _finish(self, sentence: str) -> str:
        return sentence[:1].upper() + sentence[1:] + self._rng.choice("......!")

    def _any_of(self, *kinds: Callable[[], str]) -> str:
        return self._rng.choice(kinds)()

    def _shuffled(self, sentences: list[str]) -> list[str]:
        return self._rng.sample(sentences, len(sentences))


def _turn(mood: str) -> str:
    return "-" if mood == "+" else "+"


def _bucket(text: str, buckets: int) -> bool:
    return zlib.crc32(text.encode()) % buckets == 0


def _roughen(text: str, mood: str, rng: random.Random) -> str:
    """Change case, marks and spelling now and then, and add a smiley of the same mood."""
    if rng.random() < 0.05:
        text = " ".join(_misspell(word, rng) if rng.random() < 0.1 else word for word in text.split(" "))
    if rng.random() < 0.1:
        text = text.replace(".", rng.choice(("!", "!!", "!!!", "...", ",", "", " -", "?!", ";")))
    if rng.random() < 0.15:
        text = text.rstrip(".!")
    if rng.random() < 0.1:
        text = f"{text} {rng.choice(_WAYS['smile' + mood]) * rng.randint(1, 3)}"
    case = rng.random()
    if case < 0.15:
        return text.lower()
    return text.upper() if case > 0.95 else text


def _misspell(word: str, rng: random.Random) -> str:
    """Drop or double one letter: broken words teach the model the pieces that unknown words fall into."""
    at = rng.randrange(len(word))
    return word[:at] + word[at] * rng.choice((0, 2)) + word[at + 1 :]
