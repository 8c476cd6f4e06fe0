"""A passage: a question and a context, tokenized once and whole, and the windows in which a model reads it."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

import numpy as np

from worker.adapters.tokenization.long_texts import NO_WORD, Integers, Stretch


class Passage:
    """The tokens of one pair of texts. The context's stand together, with the question before or behind it.

    Cutting the context of a tokenized pair gives the rows that the tokenizer's own truncation gives, special tokens
    and all, but one call then serves jobs of any window length, and what is impossible is known before a panic.
    """

    __slots__ = ("begin", "end", "ids", "offsets", "types", "words")

    def __init__(self, encoding: Any, context: int, *, typed: bool) -> None:
        """`encoding` is the tokenizers' own, of the pair without truncation; `context` is 0 or 1, its place in it.

        `typed` says whether the model is told which text a token is of.
        """
        ids, types = array("i", encoding.ids), array("i", encoding.type_ids)
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        words = np.array([NO_WORD if word is None else word for word in encoding.word_ids], np.int32)
        self._settle(ids, types if typed else None, offsets, words, _place(encoding.sequence_ids, context))

    @classmethod
    def framed(cls, example: Any, texts: Sequence[Stretch], context: int, *, typed: bool) -> Self:
        """The same of texts that were tokenized each by itself, in the frame that an `example` of a pair has."""
        ids, types, parts = array("i"), array("i"), []
        begin = end = 0
        for sequence, group in groupby(enumerate(example.sequence_ids), key=itemgetter(1)):
            places = [place for place, _ in group]
            part = _nowhere([example.ids[place] for place in places]) if sequence is None else texts[sequence]
            if sequence == context:
                begin, end = len(ids), len(ids) + len(part)
            ids += part.tokens
            types += array("i", [example.type_ids[places[0]]]) * len(part)
            parts.append(part)
        passage = cls.__new__(cls)
        offsets = np.concatenate([np.stack([part.begins, part.ends], axis=1) for part in parts])
        words = np.concatenate([part.words for part in parts])
        passage._settle(ids, types if typed else None, offsets, words, (begin, end))
        return passage

    def _settle(
        self, ids: "array[int]", types: "array[int] | None", offsets: Integers, words: Integers, place: tuple[int, int]
    ) -> None:
        self.ids, self.types, self.offsets, self.words = ids, types, offsets, words
        self.begin, self.end = place if place[0] < place[1] else (0, 0)

    @property
    def frame(self) -> int:
        """How many tokens of every window are not the context's: the question and the special ones."""
        return len(self.ids) - (self.end - self.begin)

    def count(self, room: int, shared: int) -> int:
        """How many windows there are with `room` tokens of the context in each, `shared` with the one before."""
        beyond = self.end - self.begin - room
        return 1 if beyond <= 0 else 1 - (-beyond // (room - shared))

    def windows(self, room: int, shared: int, *, from_the_end: bool = False) -> list["Window"]:
        """The windows in order; tokenizers that cut on the left count them from the context's end."""
        length = self.end - self.begin
        starts = [part * (room - shared) for part in range(self.count(room, shared))]
        spans = [(start, min(start + room, length)) for start in starts]
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
    def context(self) -> slice:
        """Where the context's tokens stand in this row."""
        return slice(self._passage.begin, self._passage.begin + self._stop - self._start)

    def characters(self, starts: Integers, ends: Integers, *, whole_words: bool) -> tuple[Integers, Integers]:
        """Where spans of the row's tokens begin and end in their text, in characters.

        With `whole_words` a span takes all of its first and of its last word, as far as they are in this window. One
        that begins or ends outside of any word stays as it is.
        """
        offsets, words = self._rows(self._passage.offsets), self._rows(self._passage.words)
        first, last = offsets[starts, 0], offsets[ends, 1]
        known = words[self.context]
        if not whole_words or not len(known):
            return first, last
        # Words are numbered in the order of the text.
        begin, end = np.searchsorted(known, words[starts]), np.searchsorted(known, words[ends], side="right") - 1
        begin = np.minimum(begin, len(known) - 1)
        found = (words[starts] != NO_WORD) & (words[ends] != NO_WORD)
        found &= (known[begin] == words[starts]) & (known[end] == words[ends])
        inside = offsets[self.context]
        return np.where(found, inside[begin, 0], first), np.where(found, inside[end, 1], last)

    def _rows(self, values: Integers) -> Integers:
        passage = self._passage
        return np.concatenate([values[: passage.begin], values[self._start : self._stop], values[passage.end :]])


def _place(sequences: Sequence[int | None], context: int) -> tuple[int, int]:
    inside = [place for place, sequence in enumerate(sequences) if sequence == context]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _nowhere(special: Sequence[int]) -> Stretch:
    nothing = np.zeros(len(special), np.int32)
    return Stretch(np.array(special, np.int32), nothing, nothing, nothing + NO_WORD)
