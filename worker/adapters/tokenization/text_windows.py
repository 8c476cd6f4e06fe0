"""The overlapping windows in which a classifier reads a text that is longer than its limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from models.errors import JobError, ModelError
from worker.adapters.interface import Limits
from worker.adapters.tokenization.special_tokens import SpecialTokens, Template, TemplatedRow
from worker.adapters.tokenization.token_array import TokenArray

# By default, a window shares its length divided by this with the one before.
DEFAULT_OVERLAP_DIVISOR = 4
# A million Chinese characters make 10,600 windows of 128 tokens that share a quarter. With a stride close to a window's
# length, there would be as many windows as tokens.
MAX_WINDOWS = 16_384


@dataclass(frozen=True, slots=True)
class WindowSize:
    """How much of a text a window holds, in tokens.

    room: tokens of the text.
    overlap: how many of them a window shares with the one before, fewer than `room`.
    """

    room: int
    overlap: int

    @classmethod
    def for_room(cls, room: int, stride: int | None) -> Self:
        """The size where the pipeline has this `stride`, None = a quarter of the room."""
        return cls(room, room // DEFAULT_OVERLAP_DIVISOR if stride is None else stride)

    def count(self, length: int) -> int:
        """The number of windows of a text of `length` tokens."""
        return 1 if length <= self.room else 1 - (self.room - length) // (self.room - self.overlap)

    def ranges(self, length: int, *, from_the_end: bool) -> list[tuple[int, int]]:
        """Start and end of each window; tokenizers that cut on the left count them from the end of the text.

        Raises JobError when there are too many.
        """
        count = self.count(length)
        if count > MAX_WINDOWS:
            raise JobError(
                "too_many_windows",
                f"{count:,} windows; at most {MAX_WINDOWS:,} are read: split the text, or lower the pipeline's stride",
            )
        starts = range(0, count * (self.room - self.overlap), self.room - self.overlap)
        spans = [(start, min(start + self.room, length)) for start in starts]
        return [(length - end, length - start) for start, end in spans] if from_the_end else spans


class TextWindow(TemplatedRow):
    """The features of one window: the texts of a template, one of them only in part.

    They are assembled on access, so that all windows of a text share its tokens.
    """

    __slots__ = ("_end", "_index", "_start", "_texts")

    def __init__(
        self, template: Template, texts: Sequence["TokenArray[int]"], index: int, window: tuple[int, int]
    ) -> None:
        """Take the tokens `window` of the text at `index`, and all of the other texts."""
        self._texts, self._index = texts, index
        self._start, self._end = window
        self.template = template
        lengths = [len(text) for text in texts]
        lengths[index] = self._end - self._start
        self.text_lengths = tuple(lengths)

    @property
    def input_ids(self) -> "TokenArray[int]":
        """All tokens of the row."""
        texts = [
            text[self._start : self._end] if index == self._index else text for index, text in enumerate(self._texts)
        ]
        return TemplatedRow.from_texts(self.template, texts).input_ids

    @property
    def window_tokens(self) -> int:
        """Tokens of the text that is read in windows."""
        return self._end - self._start


class WindowedTexts:
    """Tokenizes texts, or pairs of texts, and cuts the long ones into windows. Of a pair, only the longer text is cut.

    texts: 1 or 2.
    """

    def __init__(self, tokenizer: Any, limits: Limits, *, texts: int = 1) -> None:
        """Raises ModelError when the tokenizer's rows can't be put together, or the stride is as long as a window."""
        self._stride, self._max_length = limits.stride, limits.max_length
        self._special_tokens = SpecialTokens(tokenizer, limits.max_length, texts=texts)
        check_stride(limits.stride, self._special_tokens.max_text_tokens)

    def make_features(self, inputs: Sequence[Sequence[str]]) -> list[list[TemplatedRow] | JobError]:
        """The features of each input's windows, in order; a single one for an input that fits."""
        texts = iter(self._special_tokens.tokenize([text for texts in inputs for text in texts]))
        return [self._features_or_error([next(texts) for _ in parts]) for parts in inputs]

    def _features_or_error(self, texts: Sequence["TokenArray[int]"]) -> list[TemplatedRow] | JobError:
        room = self._special_tokens.max_text_tokens
        if room is None or sum(map(len, texts)) <= room:
            return [TemplatedRow.from_texts(self._special_tokens.template, texts)]
        try:
            return self._cut(texts, room)
        except JobError as error:
            return error.with_traceback(None)

    def _cut(self, texts: Sequence["TokenArray[int]"], max_tokens: int) -> list[TemplatedRow]:
        template, index = self._special_tokens.template, max(range(len(texts)), key=lambda place: len(texts[place]))
        length = len(texts[index])
        beside = sum(map(len, texts)) - length
        size = WindowSize.for_room(max_tokens - beside, self._stride)
        if size.overlap >= size.room:
            raise JobError(
                "input_too_long",
                f"the shorter text has {beside:,} tokens, which leaves windows of {self._max_length:,} tokens "
                f"{describe_room(size, 'the longer one')}; shorten the shorter text",
            )
        ranges = size.ranges(length, from_the_end=template.truncation_side == "left")
        return [TextWindow(template, texts, index, window) for window in ranges]


def describe_room(size: WindowSize, text: str) -> str:
    """Say how much room for a text windows have that are too small for their overlap."""
    if size.room < 1:
        return f"no room for {text}"
    return f"room for {size.room:,} of {text}, of which they share {size.overlap:,}"


def check_stride(stride: int | None, room: int | None) -> None:
    """Raise ModelError unless windows with `room` for text may share `stride` tokens of it; None = no limit."""
    if stride is not None and room is not None and stride >= room:
        raise ModelError(f"stride {stride} is too large: windows have {room} tokens; give fewer")
