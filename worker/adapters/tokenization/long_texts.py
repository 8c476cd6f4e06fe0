"""Long texts: tokenized in overlapping pieces, which are put together only where that is what the whole would give.

A tokenizer holds up to 1,300 bytes for each character of a text at a time. A piece's last tokens depend on where it was
cut, and the next piece's first ones do. Both read the overlap between, with other text before and behind it: where they
have found the same tokens there in the same places, what comes before is as the first piece has it, and what comes
behind as the second. For byte pairs that is exact: merges never cross a place where both have a border, as long as both
have the next border in common. Where pieces do not meet (a text of one letter), the text is tokenized whole.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer[Any]]

PIECE = 32_768  # characters
# Of neighbouring pieces. Several, some odd: in a text that repeats itself, borders may always lie apart by a few.
OVERLAPS = (1_024, 1_027, 4_095, 16_384)
LEAST_AGREEMENT = 8  # tokens that both must have found
# A few tokens want a few characters, most often; behind them as many that no small number divides, since digits may be
# grouped from their end.
CHARACTERS_PER_TOKEN, LEAST_START, LOOK_AHEAD = 8, 4_096, 1_021
NO_WORD = -1
WITHIN_WORDS = ("BPE", "Unigram")  # models whose borders within a word depend on its neighbourhood alone


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens of a part of a text, with the characters from which to which each goes, and the number of its word."""

    ids: Integers
    begins: Integers
    ends: Integers
    words: Integers

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> "Stretch":
        return Stretch(self.ids[part], self.begins[part], self.ends[part], self.words[part])

    @property
    def tokens(self) -> "array[int]":
        """The token ids, as C ints: a list of Python's takes nine times as much."""
        return array("i", self.ids.tobytes())


class LongTexts:
    """Of one tokenizer, which must be a fast one; special tokens are left out."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._within_words = type(tokenizer.backend_tokenizer.model).__name__ in WITHIN_WORDS

    def whole(self, text: str) -> Stretch:
        """All tokens of a text, as one call of the tokenizer gives them."""
        parts = list(self._settled(text))
        if len(parts) == 1:
            return parts[0]
        return Stretch(
            np.concatenate([part.ids for part in parts]), np.concatenate([part.begins for part in parts]),
            np.concatenate([part.ends for part in parts]), np.concatenate([part.words for part in parts]),
        )  # fmt: skip

    def shortened(self, text: str, count: int, side: str = "right") -> str:
        """A text with the same first `count` tokens and at least one more, if this one has as many; `side` is cut."""
        size = max(LEAST_START, CHARACTERS_PER_TOKEN * count)
        while size + LOOK_AHEAD < len(text):
            if self._keeps(text, size, count, side):
                return text[:size] if side == "right" else text[-size:]
            size *= 2
        return text

    def shortened_pair(self, text: str, other: str, count: int, side: str) -> tuple[str, str]:
        """The same of two texts that are cut to `count` tokens together: which is the longer one stays so.

        Tokenizers cut the longer one first, and of an odd number the longer one gets more.
        """
        if len(self.whole(text)) <= len(self.whole(other)):
            shorter = self.shortened(text, count, side)
            return shorter, self.shortened(other, max(count, len(self.whole(shorter))), side)
        shorter = self.shortened(other, count, side)
        return self.shortened(text, max(count, len(self.whole(shorter))), side), shorter

    def _keeps(self, text: str, size: int, count: int, side: str) -> bool:
        ahead = size + LOOK_AHEAD
        for overlap in OVERLAPS[:3]:
            if side == "right":
                kept, other = self._read(text, 0, size), self._read(text, size - overlap, ahead)
                join = self._join(kept, other, size - overlap, size)
                found = 0 if join is None else join[0]
            else:
                start = len(text) - size
                kept, other = self._read(text, start, len(text)), self._read(text, len(text) - ahead, start + overlap)
                join = self._join(other, kept, start, start + overlap)
                found = 0 if join is None else len(kept) - join[1]
            if found > count or len(kept) <= count:
                return found > count
        return False

    def _settled(self, text: str) -> Iterator[Stretch]:
        """The tokens, in parts that follow on one another."""
        left, stop, first, shift = self._read(text, 0, PIECE), PIECE, 0, 0
        parts: list[Stretch] = []
        while stop < len(text):
            found = self._next(text, left, stop)
            if found is None or found[1] < first:
                yield self._read(text, 0, len(text))
                return
            right, place, past, stop = found
            parts.append(_renumbered(left[first:place], shift))
            shift += int(left.words[place]) - int(right.words[past])
            left, first = right, past
        parts.append(_renumbered(left[first:], shift))
        yield from parts

    def _next(self, text: str, left: Stretch, stop: int) -> tuple[Stretch, int, int, int] | None:
        """The next piece, the first token of the old one that it has too, that token's number in it, and its end."""
        for overlap in OVERLAPS:
            start, past = stop - overlap, min(stop - overlap + PIECE, len(text))
            right = self._read(text, start, past)
            join = self._join(left, right, start, stop)
            if join is not None:
                return right, *join, past
        return None

    def read(self, text: str, before: int = 0) -> Stretch:
        """The tokens of a text in one call; `before` are characters that the places count beside its own."""
        [encoding] = self._tokenizer(
            [text], add_special_tokens=False, truncation=False, padding=False, return_attention_mask=False,
        ).encodings  # fmt: skip
        places = np.array(encoding.offsets, np.int32).reshape(-1, 2) + np.int32(before)
        words = np.array([NO_WORD if word is None else word for word in encoding.word_ids], np.int32)
        return Stretch(np.array(encoding.ids, np.int32), places[:, 0], places[:, 1], words)

    def _read(self, text: str, start: int, stop: int) -> Stretch:
        return self.read(text[start:stop], start)

    def _join(self, left: Stretch, right: Stretch, start: int, stop: int) -> tuple[int, int] | None:
        """A token's number in both pieces that overlap from `start` to `stop`, from which on the right one counts.

        None where they differ: but at the edges, which see a text cut off, they must have found the same.
        """
        edge = (stop - start) // 4
        ours, theirs = _inside(left, start + edge, stop - edge), _inside(right, start + edge, stop - edge)
        one, other = left[ours], right[theirs]
        if len(one) != len(other) or len(one) < LEAST_AGREEMENT:
            return None
        pairs = ((one.ids, other.ids), (one.begins, other.begins), (one.ends, other.ends))
        borders, same = _word_borders(one), all(np.array_equal(*pair) for pair in pairs)
        if not same or not np.array_equal(borders, _word_borders(other)):
            return None
        # A character may be several tokens.
        whole = (one.begins[1:] >= one.ends[:-1]) & (one.words[1:] != NO_WORD) & (other.words[1:] != NO_WORD)
        places = np.flatnonzero(whole & borders)
        if not len(places) and self._within_words:
            places = np.flatnonzero(whole)
        if not len(places):
            return None
        middle = int(places[len(places) // 2]) + 1
        return ours.start + middle, theirs.start + middle


def _inside(stretch: Stretch, start: int, stop: int) -> slice:
    """The tokens that lie between two places of the text."""
    first, past = np.searchsorted(stretch.begins, start), np.searchsorted(stretch.ends, stop, side="right")
    return slice(int(first), max(int(first), int(past)))


def _word_borders(stretch: Stretch) -> npt.NDArray[np.bool_]:
    """Between which neighbouring tokens a word ends."""
    return stretch.words[1:] != stretch.words[:-1]


def _renumbered(stretch: Stretch, shift: int) -> Stretch:
    words = np.where(stretch.words == NO_WORD, NO_WORD, stretch.words + shift).astype(np.int32)
    return Stretch(stretch.ids.copy(), stretch.begins.copy(), stretch.ends.copy(), words)


def of(tokenizer: Any) -> LongTexts | None:
    """None for a tokenizer in plain Python, which does not say where its tokens are."""
    return LongTexts(tokenizer) if tokenizer.is_fast else None
