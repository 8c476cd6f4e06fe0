"""Tokenization of long texts in overlapping pieces, joined only where the result equals that of a single call.

A tokenizer takes up to 1,300 bytes per character while it works on a text. The last tokens of a piece and the first
tokens of the next depend on where the text was cut. Both pieces contain the overlap, with different text around it.
Where they agree on its tokens and offsets, the tokens before come from the first piece and those after from the second.

For byte pairs this is exact: merges never cross a position where both pieces have a border, provided that they share
the next border too. A text whose pieces never agree (one repeated letter) is tokenized in a single call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.adapters.tokenization.token_array import TokenArray, token_array, token_array_from_bytes

Integers = npt.NDArray[np.integer[Any]]

PIECE_CHARACTERS = 32_768
# Tried in this order. Some are odd, because the borders of a periodic text may always be a few characters apart.
OVERLAP_CHARACTERS = (1_024, 1_027, 4_095, 16_384)
MIN_MATCHING_TOKENS = 8  # that two pieces must agree on
CHARACTERS_PER_TOKEN, MIN_PREFIX_CHARACTERS = 8, 4_096  # how much of a text to read at first for its first tokens
LOOKAHEAD_CHARACTERS = 1_021  # read beyond that; a prime, since digits may be grouped from their end
NO_WORD = -1
LOCAL_SPLIT_MODELS = ("BPE", "Unigram")  # their borders inside a word depend on the nearby characters only


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Consecutive tokens of a text.

    starts, ends: the characters where each token begins and ends.
    words: the number of each token's word, NO_WORD without one.
    """

    ids: Integers
    starts: Integers
    ends: Integers
    words: Integers

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> "TokenSpan":
        return TokenSpan(self.ids[part], self.starts[part], self.ends[part], self.words[part])

    @property
    def id_array(self) -> "TokenArray[int]":
        """The token ids."""
        return token_array_from_bytes(self.ids.tobytes())


class LongTextTokenizer:
    """Tokenizes texts of any length with a fast tokenizer, without special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._can_join_within_words = type(tokenizer.backend_tokenizer.model).__name__ in LOCAL_SPLIT_MODELS

    def tokenize(self, text: str) -> TokenSpan:
        """Return all tokens of a text, equal to those of one call of the tokenizer."""
        parts = self._tokenize_pieces(text)
        if len(parts) == 1:
            return parts[0]
        return TokenSpan(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.ends for part in parts]),
            np.concatenate([part.words for part in parts]),
        )

    def truncate_text(self, text: str, token_count: int, side: str = "right") -> str:
        """Return a shorter text with the same first tokens (last, if `side` is left).

        It has the same `token_count` tokens and at least one more, if the text has so many.
        """
        size = max(MIN_PREFIX_CHARACTERS, CHARACTERS_PER_TOKEN * token_count)
        while size + LOOKAHEAD_CHARACTERS < len(text):
            if self._is_long_enough(text, size, token_count, side):
                return text[:size] if side == "right" else text[-size:]
            size *= 2
        return text

    def truncate_pair(self, text: str, other: str, token_count: int, side: str) -> tuple[str, str]:
        """Shorten two texts that will be cut to `token_count` tokens together; the longer one stays the longer.

        Tokenizers cut the longer text first, and give it the odd token.
        """
        if len(self.tokenize(text)) <= len(self.tokenize(other)):
            shorter = self.truncate_text(text, token_count, side)
            return shorter, self.truncate_text(other, max(token_count, len(self.tokenize(shorter))), side)
        shorter = self.truncate_text(other, token_count, side)
        return self.truncate_text(text, max(token_count, len(self.tokenize(shorter))), side), shorter

    def tokenize_at_once(self, text: str, offset: int = 0) -> TokenSpan:
        """Return the tokens of a text in one call, with `offset` added to their characters."""
        [encoding] = self._tokenizer(
            [text], add_special_tokens=False, truncation=False, padding=False, return_attention_mask=False
        ).encodings
        offsets, words = offsets_of(encoding) + np.int32(offset), words_of(encoding)
        return TokenSpan(np.array(encoding.ids, np.int32), offsets[:, 0], offsets[:, 1], words)

    def _is_long_enough(self, text: str, size: int, token_count: int, side: str) -> bool:
        """Whether `size` characters have more than `token_count` tokens that the text beyond them does not change."""
        lookahead = size + LOOKAHEAD_CHARACTERS
        for overlap in OVERLAP_CHARACTERS[:3]:
            if side == "right":
                part = self._tokenize_range(text, 0, size)
                beyond = self._tokenize_range(text, size - overlap, lookahead)
                join = self._find_join(part, beyond, size - overlap, size)
                unchanged = 0 if join is None else join[0]
            else:
                start = len(text) - size
                part = self._tokenize_range(text, start, len(text))
                beyond = self._tokenize_range(text, len(text) - lookahead, start + overlap)
                join = self._find_join(beyond, part, start, start + overlap)
                unchanged = 0 if join is None else len(part) - join[1]
            if unchanged > token_count or len(part) <= token_count:
                return unchanged > token_count
        return False

    def _tokenize_pieces(self, text: str) -> list[TokenSpan]:
        """Return the tokens in consecutive parts; a single one if two pieces can't be joined."""
        left, end, first, word_shift = self._tokenize_range(text, 0, PIECE_CHARACTERS), PIECE_CHARACTERS, 0, 0
        parts: list[TokenSpan] = []
        while end < len(text):
            piece = self._next_piece(text, left, end)
            if piece is None or piece[1] < first:
                return [self._tokenize_range(text, 0, len(text))]
            right, left_index, right_index, end = piece
            parts.append(_renumber_words(left[first:left_index], word_shift))
            word_shift += int(left.words[left_index]) - int(right.words[right_index])
            left, first = right, right_index
        parts.append(_renumber_words(left[first:], word_shift))
        return parts

    def _next_piece(self, text: str, left: TokenSpan, left_end: int) -> tuple[TokenSpan, int, int, int] | None:
        """Return the next piece, the index of the joining token in the old and the new one, and where it ends."""
        for overlap in OVERLAP_CHARACTERS:
            start = left_end - overlap
            end = min(start + PIECE_CHARACTERS, len(text))
            right = self._tokenize_range(text, start, end)
            join = self._find_join(left, right, start, left_end)
            if join is not None:
                return right, *join, end
        return None

    def _tokenize_range(self, text: str, start: int, end: int) -> TokenSpan:
        return self.tokenize_at_once(text[start:end], start)

    def _find_join(self, left: TokenSpan, right: TokenSpan, start: int, end: int) -> tuple[int, int] | None:
        """Return the index, in each of two pieces, of the token from which the right one counts.

        None if they disagree about the middle of the overlap from `start` to `end`. Its edges see a cut text.
        """
        edge = (end - start) // 4
        left_range = _tokens_between(left, start + edge, end - edge)
        right_range = _tokens_between(right, start + edge, end - edge)
        ours, theirs = left[left_range], right[right_range]
        if len(ours) < MIN_MATCHING_TOKENS or not _have_equal_tokens(ours, theirs):
            return None
        # A character may be several tokens, which belong together.
        is_candidate = (ours.starts[1:] >= ours.ends[:-1]) & (ours.words[1:] != NO_WORD) & (theirs.words[1:] != NO_WORD)
        indices = np.flatnonzero(is_candidate & _word_borders(ours))
        if not len(indices) and self._can_join_within_words:
            indices = np.flatnonzero(is_candidate)
        if not len(indices):
            return None
        middle = int(indices[len(indices) // 2]) + 1
        return left_range.start + middle, right_range.start + middle


def offsets_of(encoding: Any) -> Integers:
    """Return where each token of an encoding begins and ends in its text, int32 `(tokens, 2)`."""
    return np.frombuffer(token_array(chain.from_iterable(encoding.offsets)), np.int32).reshape(-1, 2)


def words_of(encoding: Any) -> Integers:
    """Return the number of each token's word, int32, NO_WORD without one."""
    return np.array([NO_WORD if word is None else word for word in encoding.word_ids], np.int32)


def long_text_tokenizer_for(tokenizer: Any) -> LongTextTokenizer | None:
    """Return the tokenizer for long texts, None = a tokenizer in plain Python, which reports no offsets."""
    return LongTextTokenizer(tokenizer) if tokenizer.is_fast else None


def _tokens_between(span: TokenSpan, start: int, end: int) -> slice:
    first, last = int(np.searchsorted(span.starts, start)), int(np.searchsorted(span.ends, end, side="right"))
    return slice(first, max(first, last))


def _have_equal_tokens(span: TokenSpan, other: TokenSpan) -> bool:
    pairs = ((span.ids, other.ids), (span.starts, other.starts), (span.ends, other.ends))
    return all(np.array_equal(*pair) for pair in (*pairs, (_word_borders(span), _word_borders(other))))


def _word_borders(span: TokenSpan) -> npt.NDArray[np.bool_]:
    """Return whether a word ends between each two neighbouring tokens."""
    return span.words[1:] != span.words[:-1]


def _renumber_words(span: TokenSpan, shift: int) -> TokenSpan:
    """Return a copy, so that it does not keep the whole piece in memory."""
    words = np.where(span.words == NO_WORD, NO_WORD, span.words + shift).astype(np.int32)
    return TokenSpan(span.ids.copy(), span.starts.copy(), span.ends.copy(), words)


def is_truncated(encoding: Any, index: int, max_length: int | None, count_tokens: Callable[[], int]) -> bool:
    """Return whether the tokenizer has cut the text at this index of an encoding.

    count_tokens: returns the tokens of the whole text. A tokenizer in plain Python does not report truncation, so a
    text that fills the limit needs a second call.
    """
    if encoding.encodings is not None:
        return bool(encoding.encodings[index].overflowing)
    return max_length is not None and len(encoding["input_ids"][index]) == max_length and count_tokens() > max_length
