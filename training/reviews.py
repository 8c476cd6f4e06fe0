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

_GRAMMAR_TEXT: Final = Path(__file__).with_suffix(".txt").read_text("utf-8")


def _parse_grammar(grammar: str) -> dict[str, tuple[str, ...]]:
    """Return each key's ways to fill it; an indented line goes on with the key above."""
    joined = re.sub(r"\n +", " ", grammar).strip().splitlines()
    pairs = (line.split(":", 1) for line in joined)
    return {key: tuple(re.split(r" ?\| ?", ways.strip())) for key, ways in pairs}


_GRAMMAR: Final = _parse_grammar(_GRAMMAR_TEXT)
_SUBJECTS: Final = tuple(key.partition("@")[2] for key in _GRAMMAR if key.startswith("it@"))
_COMMON_WORDS: Final = tuple(_GRAMMAR["common"][0].split()) + _GRAMMAR["noun"]
_SLOT: Final = re.compile(r"\{(\w[\w']*)([=!+-]?)\}")
_MOOD_SLOT: Final = re.compile(r"[=!+-]}")
_STRUCTURE_WEIGHTS: Final = (42, 39, 9, 7, 3)  # per cent: brief, plain, contrast, mixed, long
_MAX_WORDS: Final = 64  # sentences: enough words that the last of the model's 512 positions are learned too


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
        yield Review(_ReviewWriter(rng, label, held_out).write(), label)


class _ReviewWriter:
    """Writes one review: it keeps to one subject and one mood."""

    def __init__(self, rng: random.Random, label: int, held_out: bool) -> None:
        self._rng = rng
        self._mood = "+" if label == POSITIVE else "-"
        self._held_out = held_out
        self._subject = rng.choice(_SUBJECTS)

    def write(self) -> str:
        """Return the review, with the sloppy spelling and shouting that people's reviews have."""
        shapes = (
            self._brief_sentences,
            self._plain_sentences,
            self._contrast_sentences,
            self._mixed_sentences,
            self._long_sentences,
        )
        sentences = self._rng.choices(shapes, _STRUCTURE_WEIGHTS)[0]()
        return _roughen(
            " ".join(self._capitalize_and_punctuate(sentence) for sentence in sentences), self._mood, self._rng
        )

    def _brief_sentences(self) -> list[str]:
        return [self._choose_key(self._remark, self._mood_word_sentence) for _ in range(self._rng.choice((1, 1, 1, 2)))]

    def _plain_sentences(self) -> list[str]:
        extras = [
            self._choose_key(self._fact, self._remark, self._opinion, self._mood_word_sentence)
            for _ in range(self._rng.randint(0, 4))
        ]
        return self._shuffle([self._opinion(), *extras])

    def _contrast_sentences(self) -> list[str]:
        """The verdict is what follows "but", and what does not follow "although"."""
        verdict, doubt = self._opinion(), self._opinion(opposite=True)
        although, despite = self._fill_slot("although"), self._fill_slot("despite")
        turns = (
            f"{doubt}{self._rng.choice((', ', ' ', '. '))}{self._fill_slot('but')} {verdict}",
            f"{although} {doubt}, {verdict}",
            f"{verdict}, {although} {doubt}",
            f"despite {despite}, {verdict}",
            f"{verdict} despite {despite}",
        )
        extras = [self._choose_key(self._fact, self._remark) for _ in range(self._rng.randint(0, 2))]
        return self._shuffle([self._rng.choice((turns[0], *turns)), *extras])

    def _mixed_sentences(self) -> list[str]:
        """One thing speaks against the verdict, more things speak for it, and the end says so."""
        middle = [self._opinion(opposite=True), *(self._opinion() for _ in range(self._rng.randint(2, 4)))]
        return [self._fill_slot("open"), *self._shuffle([*middle, self._fact()]), self._verdict()]

    def _long_sentences(self) -> list[str]:
        opinions = self._rng.randint(4, _MAX_WORDS // 2)
        facts = self._rng.randint(4, _MAX_WORDS - opinions)
        turned = self._rng.randint(0, opinions // 4)
        body = [self._opinion(opposite=index < turned) for index in range(opinions)]
        return [self._fill_slot("open"), *self._shuffle(body + [self._fact() for _ in range(facts)]), self._verdict()]

    def _verdict(self) -> str:
        return f"{self._fill_slot('end')} {self._remark()}"

    def _remark(self) -> str:
        """A set phrase or an opinion. Set phrases cannot be split in two, so held-out reviews go without them."""
        if self._held_out or self._rng.random() < 0.5:
            return self._opinion()
        return self._fill_slot("cry", "=")

    def _fact(self) -> str:
        """Something that takes no side: a plain sentence, or words at random, so that no mood sticks to either."""
        if self._rng.random() < 0.7:
            return self._fill_slot("fact")
        return self._random_words(3, 14)

    def _opinion(self, *, opposite: bool = False) -> str:
        """Say something in words of either mood, in words of one mood, or by denying the opposite."""
        sign = _opposite_mood(self._mood) if opposite else self._mood
        kind = self._rng.choices(("say", f"say{sign}", "deny"), (60, 30, 10))[0]
        return self._draw_in_split(lambda: self._rng.choice(_GRAMMAR[kind]), sign)

    def _mood_word_sentence(self) -> str:
        """Words at random with one that has a mood: so a word is learned apart from the sentences it comes in."""
        return self._draw_in_split(
            lambda: " ".join((self._random_words(0, 5), self._rng.choice(_GRAMMAR["hint"]), self._random_words(0, 5))),
            self._mood,
        )

    def _draw_in_split(self, pattern_of: Callable[[], str], sign: str) -> str:
        """Draw until the sentence is on this side of the split: its checksum, or that of its pattern, decides."""
        while True:
            pattern = pattern_of()
            sentence = self._expand_pattern(pattern, sign)
            apart = "{" in pattern and (
                _hash_bucket(sentence, 8) or (_MOOD_SLOT.search(pattern) and _hash_bucket(pattern, 16))
            )
            if bool(apart) == self._held_out:
                return sentence

    def _random_words(self, min_words: int, max_words: int) -> str:
        return " ".join(self._rng.choices(_COMMON_WORDS, k=self._rng.randint(min_words, max_words)))

    def _expand_pattern(self, pattern: str, sign: str | None = None) -> str:
        filled = _SLOT.sub(lambda slot: self._fill_slot(slot[1], slot[2], sign), pattern)
        return re.sub(r" +", " ", filled).strip()

    def _fill_slot(self, name: str, mark: str = "", sign: str | None = None) -> str:
        """Choose a way to fill a slot: the subject's own words half of the time, the general ones otherwise."""
        mood = sign or self._mood
        key = {"=": mood, "!": _opposite_mood(mood)}.get(mark, mark)
        lists = [ways for at in (f"@{self._subject}", "") if (ways := _GRAMMAR.get(f"{name}{at}{key}"))]
        if not lists:
            lists = [_GRAMMAR[f"{name}{mark}"]]
        return self._expand_pattern(self._rng.choice(self._rng.choice(lists)), mood)

    def _capitalize_and_punctuate(self, sentence: str) -> str:
        return sentence[:1].upper() + sentence[1:] + self._rng.choice("......!")

    def _choose_key(self, *kinds: Callable[[], str]) -> str:
        return self._rng.choice(kinds)()

    def _shuffle(self, sentences: list[str]) -> list[str]:
        return self._rng.sample(sentences, len(sentences))


def _opposite_mood(mood: str) -> str:
    return "-" if mood == "+" else "+"


def _hash_bucket(text: str, buckets: int) -> bool:
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
        text = f"{text} {rng.choice(_GRAMMAR['smile' + mood]) * rng.randint(1, 3)}"
    case = rng.random()
    if case < 0.15:
        return text.lower()
    return text.upper() if case > 0.95 else text


def _misspell(word: str, rng: random.Random) -> str:
    """Drop or double one letter: broken words teach the model the pieces that unknown words fall into."""
    at = rng.randrange(len(word))
    return word[:at] + word[at] * rng.choice((0, 2)) + word[at + 1 :]
