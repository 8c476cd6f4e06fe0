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

PIECE_CHARACTERS = 32_768  # characters
# Of neighbouring pieces. Several, some odd: in a text that repeats itself, borders may always lie apart by a few.
OVERLAP_CHARACTERS = (1_024, 1_027, 4_095, 16_384)
MIN_MATCHING_TOKENS = 8  # tokens that both must have found
# A few tokens want a few characters, most often; behind them as many that no small number divides, since digits may be
# grouped from their end.
CHARACTERS_PER_TOKEN, MIN_PREFIX_CHARACTERS, LOOKAHEAD_CHARACTERS = 8, 4_096, 1_021
NO_WORD = -1
LOCAL_SPLIT_MODELS = ("BPE", "Unigram")  # models whose borders within a word depend on its neighbourhood alone


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Tokens of a part of a text, with the characters from which to which each goes, and the number of its word."""

    ids: Integers
    starts: Integers
    ends: Integers
    words: Integers

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> "TokenSpan":
        return TokenSpan(self.ids[part], self.starts[part], self.ends[part], self.words[part])

    @property
    def id_array(self) -> "array[int]":
        """The token ids, as C ints: a list of Python's takes nine times as much."""
        return array("i", self.ids.tobytes())


class LongTextTokenizer:
    """Of one tokenizer, which must be a fast one; special tokens are left out."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._can_join_within_words = type(tokenizer.backend_tokenizer.model).__name__ in LOCAL_SPLIT_MODELS

    def tokenize(self, text: str) -> TokenSpan:
        """All tokens of a text, as one call of the tokenizer gives them."""
        parts = list(self._tokenize_pieces(text))
        if len(parts) == 1:
            return parts[0]
        return TokenSpan(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.ends for part in parts]),
            np.concatenate([part.words for part in parts]),
        )

    def truncate_text(self, text: str, token_count: int, side: str = "right") -> str:
        """A text with the same first `count` tokens and at least one more, if this one has as many; `side` is cut."""
        size = max(MIN_PREFIX_CHARACTERS, CHARACTERS_PER_TOKEN * token_count)
        while size + LOOKAHEAD_CHARACTERS < len(text):
            if self._is_long_enough(text, size, token_count, side):
                return text[:size] if side == "right" else text[-size:]
            size *= 2
        return text

    def truncate_pair(self, text: str, other: str, token_count: int, side: str) -> tuple[str, str]:
        """The same of two texts that are cut to `count` tokens together: which is the longer one stays so.

        Tokenizers cut the longer one first, and of an odd number the longer one gets more.
        """
        if len(self.tokenize(text)) <= len(self.tokenize(other)):
            shorter = self.truncate_text(text, token_count, side)
            return shorter, self.truncate_text(other, max(token_count, len(self.tokenize(shorter))), side)
        shorter = self.truncate_text(other, token_count, side)
        return self.truncate_text(text, max(token_count, len(self.tokenize(shorter))), side), shorter

    def _is_long_enough(self, text: str, size: int, token_count: int, side: str) -> bool:
        ahead = size + LOOKAHEAD_CHARACTERS
        for overlap in OVERLAP_CHARACTERS[:3]:
            if side == "right":
                kept, other = self._tokenize_range(text, 0, size), self._tokenize_range(text, size - overlap, ahead)
                join = self._find_join(kept, other, size - overlap, size)
                found = 0 if join is None else join[0]
            else:
                start = len(text) - size
                kept, other = (
                    self._tokenize_range(text, start, len(text)),
                    self._tokenize_range(text, len(text) - ahead, start + overlap),
                )
                join = self._find_join(other, kept, start, start + overlap)
                found = 0 if join is None else len(kept) - join[1]
            if found > token_count or len(kept) <= token_count:
                return found > token_count
        return False

    def _tokenize_pieces(self, text: str) -> Iterator[TokenSpan]:
        """The tokens, in parts that follow on one another."""
        left, stop, first, shift = self._tokenize_range(text, 0, PIECE_CHARACTERS), PIECE_CHARACTERS, 0, 0
        parts: list[TokenSpan] = []
        while stop < len(text):
            found = self._next_piece(text, left, stop)
            if found is None or found[1] < first:
                yield self._tokenize_range(text, 0, len(text))
                return
            right, place, past, stop = found
            parts.append(_renumber_words(left[first:place], shift))
            shift += int(left.words[place]) - int(right.words[past])
            left, first = right, past
        parts.append(_renumber_words(left[first:], shift))
        yield from parts

    def _next_piece(self, text: str, left: TokenSpan, stop: int) -> tuple[TokenSpan, int, int, int] | None:
        """The next piece, the first token of the old one that it has too, that token's number in it, and its end."""
        for overlap in OVERLAP_CHARACTERS:
            start, past = stop - overlap, min(stop - overlap + PIECE_CHARACTERS, len(text))
            right = self._tokenize_range(text, start, past)
            join = self._find_join(left, right, start, stop)
            if join is not None:
                return right, *join, past
        return None

    def tokenize_at_once(self, text: str, offset: int = 0) -> TokenSpan:
        """The tokens of a text in one call; `before` are characters that the places count beside its own."""
        [encoding] = self._tokenizer(
            [text], add_special_tokens=False, truncation=False, padding=False, return_attention_mask=False
        ).encodings
        places = np.array(encoding.offsets, np.int32).reshape(-1, 2) + np.int32(offset)
        words = np.array([NO_WORD if word is None else word for word in encoding.word_ids], np.int32)
        return TokenSpan(np.array(encoding.ids, np.int32), places[:, 0], places[:, 1], words)

    def _tokenize_range(self, text: str, start: int, stop: int) -> TokenSpan:
        return self.tokenize_at_once(text[start:stop], start)

    def _find_join(self, left: TokenSpan, right: TokenSpan, start: int, stop: int) -> tuple[int, int] | None:
        """A token's number in both pieces that overlap from `start` to `stop`, from which on the right one counts.

        None where they differ: but at the edges, which see a text cut off, they must have found the same.
        """
        edge = (stop - start) // 4
        ours, theirs = (
            _tokens_between(left, start + edge, stop - edge),
            _tokens_between(right, start + edge, stop - edge),
        )
        one, other = left[ours], right[theirs]
        if len(one) != len(other) or len(one) < MIN_MATCHING_TOKENS:
            return None
        pairs = ((one.ids, other.ids), (one.starts, other.starts), (one.ends, other.ends))
        borders, same = _word_borders(one), all(np.array_equal(*pair) for pair in pairs)
        if not same or not np.array_equal(borders, _word_borders(other)):
            return None
        # A character may be several tokens.
        whole = (one.starts[1:] >= one.ends[:-1]) & (one.words[1:] != NO_WORD) & (other.words[1:] != NO_WORD)
        places = np.flatnonzero(whole & borders)
        if not len(places) and self._can_join_within_words:
            places = np.flatnonzero(whole)
        if not len(places):
            return None
        middle = int(places[len(places) // 2]) + 1
        return ours.start + middle, theirs.start + middle


def _tokens_between(stretch: TokenSpan, start: int, stop: int) -> slice:
    """The tokens that lie between two places of the text."""
    first, past = np.searchsorted(stretch.starts, start), np.searchsorted(stretch.ends, stop, side="right")
    return slice(int(first), max(int(first), int(past)))


def _word_borders(stretch: TokenSpan) -> npt.NDArray[np.bool_]:
    """Between which neighbouring tokens a word ends."""
    return stretch.words[1:] != stretch.words[:-1]


def _renumber_words(stretch: TokenSpan, shift: int) -> TokenSpan:
    words = np.where(stretch.words == NO_WORD, NO_WORD, stretch.words + shift).astype(np.int32)
    return TokenSpan(stretch.ids.copy(), stretch.starts.copy(), stretch.ends.copy(), words)


def long_text_tokenizer_for(tokenizer: Any) -> LongTextTokenizer | None:
    """None for a tokenizer in plain Python, which does not say where its tokens are."""
    return LongTextTokenizer(tokenizer) if tokenizer.is_fast else None
