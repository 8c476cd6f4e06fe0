"""Pairs of a query and a text, put together from their tokens as the tokenizer would. Pure."""

from typing import Any

from worker.adapters.tokenization.special_tokens import Template, TemplatedRow
from worker.adapters.tokenization.text_windows import TextWindow
from worker.adapters.tokenization.token_array import TokenArray


class PairWindow(TextWindow):
    """A query with one window of a text.

    text_index: the number of the text among those of its job.
    """

    __slots__ = ("text_index",)

    def __init__(
        self,
        template: Template,
        query: "TokenArray[int]",
        text: "TokenArray[int]",
        window: tuple[int, int],
        text_index: int,
    ) -> None:
        super().__init__(template, (query, text), 1, window)
        self.text_index = text_index


class PairTemplate:
    """How a tokenizer puts two texts together, and cuts the longer one first.

    template: its special tokens.
    max_tokens: tokens of both texts together, None = no limit.
    """

    def __init__(self, tokenizer: Any, template: Template, max_tokens: int | None) -> None:
        self.template, self.max_tokens = template, max_tokens
        self._is_fast = tokenizer.is_fast

    def make_pair(self, query: "TokenArray[int]", text: "TokenArray[int]") -> TemplatedRow:
        """Return the features of a query and a text."""
        lengths = self._truncated_lengths(len(query), len(text))
        texts = [self.template.truncate(ids, length) for ids, length in zip((query, text), lengths, strict=True)]
        return TemplatedRow.from_texts(self.template, texts)

    def _truncated_lengths(self, first: int, second: int) -> tuple[int, int]:
        """Return the tokens that are left of two texts.

        If both are cut, one may keep a token more: the longer one or else the second, in the `tokenizers` library; the
        first, in tokenizers in plain Python.
        """
        limit = self.max_tokens
        if limit is None or first + second <= limit:
            return first, second
        shorter = min(first, second)
        if 2 * shorter <= limit:
            return (limit - shorter, shorter) if first > second else (shorter, limit - shorter)
        half = limit // 2
        return (limit - half, half) if first > second or not self._is_fast else (half, limit - half)
