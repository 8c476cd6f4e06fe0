"""A question and its context, tokenized once, and the overlapping windows in which a model reads them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

import numpy as np

from worker.adapters.tokenization import long_texts
from worker.adapters.tokenization.long_texts import NO_WORD, Integers, TokenSpan
from worker.adapters.tokenization.token_array import TokenArray, token_array


class Passage:
    """The tokens of a pair of texts: the context is contiguous, with the question before or after it.

    Cutting the context of a tokenized pair gives the same rows as the tokenizer's own truncation, special tokens
    included. One call serves jobs of any window length, and impossible lengths are found before the tokenizer panics.
    """

    __slots__ = ("begin", "end", "ids", "offsets", "types", "words")

    def __init__(self, encoding: Any, context_index: int, *, has_token_types: bool) -> None:
        """Build it from an encoding of the `tokenizers` library, not truncated.

        context_index: the position of the context in the pair, 0 or 1.
        has_token_types: whether the model takes the type of each token.
        """
        self.ids = token_array(encoding.ids)
        self.types = token_array(encoding.type_ids) if has_token_types else None
        self.offsets, self.words = long_texts.offsets_of(encoding), long_texts.words_of(encoding)
        self.begin, self.end = _find_context_range(encoding.sequence_ids, context_index)

    @classmethod
    def from_texts(cls, example: Any, texts: Sequence[TokenSpan], context_index: int, *, has_token_types: bool) -> Self:
        """Build it from texts that were tokenized separately, in the template of an example encoding of a pair."""
        ids, types, parts = token_array(()), token_array(()), []
        begin = end = 0
        for sequence, group in groupby(enumerate(example.sequence_ids), key=itemgetter(1)):
            indices = [index for index, _ in group]
            part = _special_span([example.ids[index] for index in indices]) if sequence is None else texts[sequence]
            if sequence == context_index and len(part):
                begin, end = len(ids), len(ids) + len(part)
            ids += part.id_array
            types += token_array([example.type_ids[indices[0]]]) * len(part)
            parts.append(part)
        passage = cls.__new__(cls)
        passage.ids, passage.types = ids, types if has_token_types else None
        passage.offsets = np.concatenate([np.stack([part.starts, part.ends], axis=1) for part in parts])
        passage.words = np.concatenate([part.words for part in parts])
        passage.begin, passage.end = begin, end
        return passage

    @property
    def overhead_tokens(self) -> int:
        """The tokens of every window besides the context: the question and the special tokens."""
        return len(self.ids) - (self.end - self.begin)

    def window_count(self, context_tokens: int, overlap: int) -> int:
        """Return the number of windows with `context_tokens` each, `overlap` of them shared with the previous one."""
        remaining = self.end - self.begin - context_tokens
        return 1 if remaining <= 0 else 1 - (-remaining // (context_tokens - overlap))

    def windows(self, context_tokens: int, overlap: int, *, from_the_end: bool = False) -> list["Window"]:
        """Return the windows in order; tokenizers that cut on the left count them from the end of the context."""
        length = self.end - self.begin
        if length <= context_tokens:
            return [Window(self, self.begin, self.end)]
        starts = [index * (context_tokens - overlap) for index in range(self.window_count(context_tokens, overlap))]
        spans = [(start, min(start + context_tokens, length)) for start in starts]
        if from_the_end:
            spans = [(length - end, length - start) for start, end in spans]
        return [Window(self, self.begin + start, self.begin + end) for start, end in spans]


class Window(Mapping[str, "TokenArray[int]"]):
    """One row: the passage with only the tokens `[start, end)` of its context.

    As a mapping it holds the features of the row, assembled on access, so that many windows share one passage.
    """

    __slots__ = ("_end", "_passage", "_start")

    def __init__(self, passage: Passage, start: int, end: int) -> None:
        self._passage, self._start, self._end = passage, start, end

    def __getitem__(self, name: str) -> "TokenArray[int]":
        passage = self._passage
        values = {"input_ids": passage.ids, "token_type_ids": passage.types}[name]
        if values is None:
            raise KeyError(name)
        if self._start == passage.begin and self._end == passage.end:
            return values
        return values[: passage.begin] + values[self._start : self._end] + values[passage.end :]

    def __iter__(self) -> Iterator[str]:
        yield "input_ids"
        if self._passage.types is not None:
            yield "token_type_ids"

    def __len__(self) -> int:
        return 1 if self._passage.types is None else 2

    @property
    def context_slice(self) -> slice:
        """The position of the context's tokens in this row."""
        return slice(self._passage.begin, self._passage.begin + self._end - self._start)

    @property
    def offsets(self) -> Integers:
        """The first and last character of each token of the row, in its text."""
        return self._select_window(self._passage.offsets)

    @property
    def words(self) -> Integers:
        """The word of each token of the row, NO_WORD for those outside any word."""
        return self._select_window(self._passage.words)

    def character_spans(self, starts: Integers, ends: Integers, *, whole_words: bool) -> tuple[Integers, Integers]:
        """Return the first and last characters, in their text, of spans of the row's tokens.

        With `whole_words` a span includes all of its first and last word, as far as they are inside this window. A span
        that begins or ends outside any word is returned as it is.
        """
        offsets, words = self.offsets, self.words
        first, last = offsets[starts, 0], offsets[ends, 1]
        context_words = words[self.context_slice]
        if not whole_words or not len(context_words):
            return first, last
        first_words, last_words = words[starts], words[ends]
        # Words are numbered in text order.
        begin = np.minimum(np.searchsorted(context_words, first_words), len(context_words) - 1)
        end = np.searchsorted(context_words, last_words, side="right") - 1
        has_words = (first_words != NO_WORD) & (last_words != NO_WORD)
        has_words &= (context_words[begin] == first_words) & (context_words[end] == last_words)
        context_offsets = offsets[self.context_slice]
        return np.where(has_words, context_offsets[begin, 0], first), np.where(has_words, context_offsets[end, 1], last)

    def _select_window(self, values: Integers) -> Integers:
        passage = self._passage
        if self._start == passage.begin and self._end == passage.end:
            return values
        return np.concatenate([values[: passage.begin], values[self._start : self._end], values[passage.end :]])


def character_spans_of_windows(
    windows: Sequence[Window], counts: Integers, starts: Integers, ends: Integers, *, whole_words: bool
) -> tuple[Integers, Integers]:
    """What `Window.character_spans` returns, for spans of several windows.

    counts: how many of the spans belong to each window; the spans are in the order of the windows.
    """
    window_of_span = np.repeat(np.arange(len(windows)), counts)
    offset_lines = [window.offsets for window in windows]
    token_counts = np.array([len(line) for line in offset_lines])
    offsets = np.concatenate(offset_lines)
    window_begins = (token_counts.cumsum() - token_counts)[window_of_span]
    first, last = offsets[window_begins + starts, 0], offsets[window_begins + ends, 1]
    if not whole_words:
        return first, last
    word_lines = [window.words for window in windows]
    words = np.concatenate(word_lines)
    contexts = [window.context_slice for window in windows]
    begins = np.array([context.start for context in contexts])
    lengths = np.array([context.stop for context in contexts]) - begins
    context_words = np.concatenate([line[context] for line, context in zip(word_lines, contexts, strict=True)])
    # Words grow along a context. With a distance between windows they grow along all of them, as the search needs.
    distance = int(words.max()) + 2
    keys = context_words + np.repeat(np.arange(len(windows)) * distance, lengths)
    if not lengths.all() or (keys[1:] < keys[:-1]).any():
        return _search_each_window(windows, counts, starts, ends)
    bases = (lengths.cumsum() - lengths)[window_of_span]
    first_words, last_words = words[window_begins + starts], words[window_begins + ends]
    last_places = lengths[window_of_span] - 1
    begin = np.searchsorted(keys, first_words + window_of_span * distance) - bases
    end = np.searchsorted(keys, last_words + window_of_span * distance, side="right") - 1 - bases
    begin, end = np.clip(begin, 0, last_places), np.clip(end, 0, last_places)
    has_words = (first_words != NO_WORD) & (last_words != NO_WORD)
    has_words &= (context_words[bases + begin] == first_words) & (context_words[bases + end] == last_words)
    context_begins = window_begins + begins[window_of_span]
    return (
        np.where(has_words, offsets[context_begins + begin, 0], first),
        np.where(has_words, offsets[context_begins + end, 1], last),
    )


def _search_each_window(
    windows: Sequence[Window], counts: Integers, starts: Integers, ends: Integers
) -> tuple[Integers, Integers]:
    """The whole words of each window by itself, for windows without a context or with words out of order."""
    borders = counts.cumsum()[:-1]
    spans = [
        window.character_spans(window_starts, window_ends, whole_words=True)
        for window, window_starts, window_ends in zip(
            windows, np.split(starts, borders), np.split(ends, borders), strict=True
        )
    ]
    return np.concatenate([first for first, _ in spans]), np.concatenate([last for _, last in spans])


def _find_context_range(sequences: Sequence[int | None], context_index: int) -> tuple[int, int]:
    if context_index not in sequences:
        return 0, 0
    return sequences.index(context_index), len(sequences) - sequences[::-1].index(context_index)


def _special_span(special_ids: Sequence[int]) -> TokenSpan:
    zeros = np.zeros(len(special_ids), np.int32)
    return TokenSpan(np.array(special_ids, np.int32), zeros, zeros, zeros + NO_WORD)
