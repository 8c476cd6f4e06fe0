"""A passage: a question and a context, tokenized once and whole, and the windows in which a model reads it."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

import numpy as np

from worker.adapters.tokenization.long_texts import NO_WORD, Integers, TokenSpan


class Passage:
    """The tokens of one pair of texts. The context's stand together, with the question before or behind it.

    Cutting the context of a tokenized pair gives the rows that the tokenizer's own truncation gives, special tokens
    and all, but one call then serves jobs of any window length, and what is impossible is known before a panic.
    """

    __slots__ = ("begin", "end", "ids", "offsets", "types", "words")

    def __init__(self, encoding: Any, context_index: int, *, has_token_types: bool) -> None:
        """`encoding` is the tokenizers' own, of the pair without truncation; `context` is 0 or 1, its place in it.

        `typed` says whether the model is told which text a token is of.
        """
        ids, types = array("i", encoding.ids), array("i", encoding.type_ids)
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        words = np.array([NO_WORD if word is None else word for word in encoding.word_ids], np.int32)
        self._set_tokens(
            ids,
            types if has_token_types else None,
            offsets,
            words,
            _find_context_range(encoding.sequence_ids, context_index),
        )

    @classmethod
    def from_texts(cls, example: Any, texts: Sequence[TokenSpan], context_index: int, *, has_token_types: bool) -> Self:
        """The same of texts that were tokenized each by itself, in the frame that an `example` of a pair has."""
        ids, types, parts = array("i"), array("i"), []
        begin = end = 0
        for sequence, group in groupby(enumerate(example.sequence_ids), key=itemgetter(1)):
            places = [place for place, _ in group]
            part = _special_span([example.ids[place] for place in places]) if sequence is None else texts[sequence]
            if sequence == context_index:
                begin, end = len(ids), len(ids) + len(part)
            ids += part.id_array
            types += array("i", [example.type_ids[places[0]]]) * len(part)
            parts.append(part)
        passage = cls.__new__(cls)
        offsets = np.concatenate([np.stack([part.starts, part.ends], axis=1) for part in parts])
        words = np.concatenate([part.words for part in parts])
        passage._set_tokens(ids, types if has_token_types else None, offsets, words, (begin, end))
        return passage

    def _set_tokens(
        self,
        ids: "array[int]",
        types: "array[int] | None",
        offsets: Integers,
        words: Integers,
        context_range: tuple[int, int],
    ) -> None:
        self.ids, self.types, self.offsets, self.words = ids, types, offsets, words
        self.begin, self.end = context_range if context_range[0] < context_range[1] else (0, 0)

    @property
    def overhead_tokens(self) -> int:
        """How many tokens of every window are not the context's: the question and the special ones."""
        return len(self.ids) - (self.end - self.begin)

    def window_count(self, context_tokens: int, overlap: int) -> int:
        """How many windows there are with `room` tokens of the context in each, `shared` with the one before."""
        beyond = self.end - self.begin - context_tokens
        return 1 if beyond <= 0 else 1 - (-beyond // (context_tokens - overlap))

    def windows(self, context_tokens: int, overlap: int, *, from_the_end: bool = False) -> list["Window"]:
        """The windows in order; tokenizers that cut on the left count them from the context's end."""
        length = self.end - self.begin
        starts = [part * (context_tokens - overlap) for part in range(self.window_count(context_tokens, overlap))]
        spans = [(start, min(start + context_tokens, length)) for start in starts]
        if from_the_end:
            spans = [(length - stop, length - start) for start, stop in spans]
        return [Window(self, self.begin + start, self.begin + stop) for start, stop in spans]


class Window(Mapping[str, Any]):
    """One row: the passage without what lies outside `[start, stop)` of its context.

    As a mapping it is the row's features, put together when asked for, so that many windows share one passage.
    """

    __slots__ = ("_passage", "_start", "_stop")

    def __init__(self, passage: Passage, start: int, stop: int) -> None:
        self._passage, self._start, self._stop = passage, start, stop

    def __getitem__(self, name: str) -> list[int]:
        values = {"input_ids": self._passage.ids, "token_type_ids": self._passage.types}[name]
        if values is None:
            raise KeyError(name)
        return [*values[: self._passage.begin], *values[self._start : self._stop], *values[self._passage.end :]]

    def __iter__(self) -> Iterator[str]:
        yield "input_ids"
        if self._passage.types is not None:
            yield "token_type_ids"

    def __len__(self) -> int:
        return 1 if self._passage.types is None else 2

    @property
    def context_slice(self) -> slice:
        """Where the context's tokens stand in this row."""
        return slice(self._passage.begin, self._passage.begin + self._stop - self._start)

    def character_spans(self, starts: Integers, ends: Integers, *, whole_words: bool) -> tuple[Integers, Integers]:
        """Where spans of the row's tokens begin and end in their text, in characters.

        With `whole_words` a span takes all of its first and of its last word, as far as they are in this window. One
        that begins or ends outside of any word stays as it is.
        """
        offsets, words = self._select_window(self._passage.offsets), self._select_window(self._passage.words)
        first, last = offsets[starts, 0], offsets[ends, 1]
        known = words[self.context_slice]
        if not whole_words or not len(known):
            return first, last
        # Words are numbered in the order of the text.
        begin, end = np.searchsorted(known, words[starts]), np.searchsorted(known, words[ends], side="right") - 1
        begin = np.minimum(begin, len(known) - 1)
        found = (words[starts] != NO_WORD) & (words[ends] != NO_WORD)
        found &= (known[begin] == words[starts]) & (known[end] == words[ends])
        inside = offsets[self.context_slice]
        return np.where(found, inside[begin, 0], first), np.where(found, inside[end, 1], last)

    def _select_window(self, values: Integers) -> Integers:
        passage = self._passage
        return np.concatenate([values[: passage.begin], values[self._start : self._stop], values[passage.end :]])


def _find_context_range(sequences: Sequence[int | None], context_index: int) -> tuple[int, int]:
    inside = [place for place, sequence in enumerate(sequences) if sequence == context_index]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _special_span(special_ids: Sequence[int]) -> TokenSpan:
    nothing = np.zeros(len(special_ids), np.int32)
    return TokenSpan(np.array(special_ids, np.int32), nothing, nothing, nothing + NO_WORD)
