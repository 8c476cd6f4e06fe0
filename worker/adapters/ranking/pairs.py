"""Pairs of a query and a text, put together from their tokens as the tokenizer would. Pure."""

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


def make_pair(
    template: Template, query: "TokenArray[int]", text: "TokenArray[int]", max_tokens: int | None
) -> TemplatedRow:
    """Return the features of a query and a text, cut to `max_tokens` together, None = no limit."""
    lengths = truncated_lengths(len(query), len(text), max_tokens)
    texts = [template.truncate(ids, length) for ids, length in zip((query, text), lengths, strict=True)]
    return TemplatedRow.from_texts(template, texts)


def truncated_lengths(first: int, second: int, max_tokens: int | None) -> tuple[int, int]:
    """Return the tokens that are left of two texts where the longer one is cut first.

    The `tokenizers` library counts like this: if both are cut, the longer one keeps the odd token, or the second one if
    they are equally long.
    """
    if max_tokens is None or first + second <= max_tokens:
        return first, second
    shorter = min(first, second)
    if 2 * shorter <= max_tokens:
        longer = max_tokens - shorter
    else:
        shorter, longer = max_tokens // 2, max_tokens - max_tokens // 2
    return (longer, shorter) if first > second else (shorter, longer)
