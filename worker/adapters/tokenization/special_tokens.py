"""Framing: what a tokenizer puts around the tokens of a text, or of a pair of texts.

Knowing it once, a text that takes part in many rows (a pair with each of its labels, overlapping windows) is tokenized
once and cut anywhere, and no tokenizer's own way of cutting matters.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from models.errors import ModelError
from worker.adapters.tokenization import long_texts
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS, TokenSpan

# Two for each text: the frame is found with the first and tried on the second.
PROBE_TEXTS = (("a", "b c"), ("d e f", "g"))


@dataclass(frozen=True, slots=True)
class Template:
    """The special tokens before, between and after texts, and the type of each token where the tokenizer tells types.

    `types` has a list for each list of `special` tokens and, between them, the one type of a whole text.
    """

    special_ids: tuple[list[int], ...]
    special_types: tuple[list[int], ...] | None
    text_types: tuple[int, ...]
    truncation_side: str

    @property
    def token_count(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.special_ids))

    def truncate(self, ids: "array[int]", max_tokens: int | None) -> "array[int]":
        """The `room` tokens that are kept of a text; the rest is cut off on the tokenizer's side."""
        if max_tokens is None or len(ids) <= max_tokens:
            return ids
        return ids[len(ids) - max_tokens :] if self.truncation_side == "left" else ids[:max_tokens]


@dataclass(frozen=True, slots=True)
class TemplatedRow(Mapping[str, list[int]]):
    """The features of a row: texts in their frame, put together only when asked for, so rows share their texts."""

    template: Template
    texts: tuple[Sequence[int], ...]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = ("input_ids",) if self.template.special_types is None else ("input_ids", "token_type_ids")
        object.__setattr__(self, "names", names)

    def __getitem__(self, name: str) -> list[int]:
        if name == "input_ids":
            return self._interleave(self.template.special_ids, self.texts)
        if name == "token_type_ids" and self.template.special_types is not None:
            types = [[kind] * len(text) for kind, text in zip(self.template.text_types, self.texts, strict=True)]
            return self._interleave(self.template.special_types, types)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 for each token of the frame, 0 for each of a text."""
        return self._interleave(
            [[1] * len(ids) for ids in self.template.special_ids], [[0] * len(text) for text in self.texts]
        )

    def _interleave(self, special_parts: Sequence[list[int]], texts: Sequence[Sequence[int]]) -> list[int]:
        woven = list(special_parts[0])
        for text, after in zip(texts, special_parts[1:], strict=True):
            woven += text
            woven += after
        return woven


class SpecialTokens:
    """A tokenizer, split in two: the tokens of texts, and the frame for `texts` of them."""

    def __init__(self, tokenizer: Any, max_length: int | None, *, texts: int = 1) -> None:
        """Raises ModelError when the frame depends on the text, or leaves no room for any."""
        self._tokenizer = tokenizer
        self.long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        self.template = self._find_template(PROBE_TEXTS[0][:texts])
        if max_length is not None and self.template.token_count >= max_length:
            raise ModelError(
                f"max_length {max_length} leaves no room for text: {self.template.token_count} are special tokens"
            )
        # What one text may have; of a pair, both together.
        self.max_text_tokens = None if max_length is None else max_length - self.template.token_count
        probe = PROBE_TEXTS[1][:texts]
        row = TemplatedRow(self.template, tuple(self.tokenize([text])[0] for text in probe))
        if dict(row) != self._tokenize_with_special(probe):
            raise ModelError("the tokenizer puts other special tokens around other texts; take another model")

    def tokenize(self, texts: Sequence[str], max_tokens: int | None = None) -> list["array[int]"]:
        """The token ids of each text, neither framed nor cut.

        most: how many will be kept. Of a long text then come as many and some more, None = all.
        """
        found: list[array[int]] = [array("i")] * len(texts)
        short = [
            place
            for place, text in enumerate(texts)
            if self.long_text_tokenizer is None or len(text) <= PIECE_CHARACTERS
        ]
        if short:
            for place, ids in zip(
                short, self.encode_without_special([texts[place] for place in short])["input_ids"], strict=True
            ):
                found[place] = array("i", ids)
        for place in sorted(set(range(len(texts))).difference(short)):
            found[place] = self.tokenize_long(texts[place], max_tokens).id_array
        return found

    def tokenize_long(self, text: str, max_tokens: int | None = None) -> TokenSpan:
        """The same of a long text, with the places of its tokens. Only of a fast tokenizer."""
        long = self.long_text_tokenizer
        assert long is not None
        if (
            max_tokens is None
            or (text_left := long.truncate_text(text, max_tokens, self.template.truncation_side)) == text
        ):
            return long.tokenize(text)
        return long.tokenize_at_once(
            text_left, offset=0 if self.template.truncation_side == "right" else len(text) - len(text_left)
        )

    def encode_without_special(self, texts: Sequence[str], **options: bool) -> Any:
        """All that the tokenizer gives for at least one text, neither framed nor cut."""
        return self._tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            **options,
        )

    def _tokenize_with_special(self, texts: Sequence[str]) -> dict[str, list[int]]:
        return dict(self._tokenizer(*texts, truncation=False, padding=False, return_attention_mask=False))

    def _find_template(self, texts: Sequence[str]) -> Template:
        whole = self._tokenize_with_special(texts)
        ids = whole["input_ids"]
        spans, end = [], 0
        for text in texts:
            [own] = self.tokenize([text])
            start = _find_subsequence(own, ids, end)
            end = start + len(own)
            spans.append(slice(start, end))
        edges = [0, *chain.from_iterable((span.start, span.stop) for span in spans), len(ids)]
        outside = [slice(*edges[place : place + 2]) for place in range(0, len(edges), 2)]
        types = whole.get("token_type_ids")
        return Template(
            special_ids=tuple(ids[part] for part in outside),
            special_types=None if types is None else tuple(types[part] for part in outside),
            text_types=() if types is None else tuple(types[span.start] for span in spans),
            truncation_side=self._tokenizer.truncation_side,
        )


def template_for(tokenizer: Any, texts: int = 1) -> Template | None:
    """The frame for so many texts, or None for a tokenizer that frames texts in a way of its own."""
    try:
        return SpecialTokens(tokenizer, None, texts=texts).template
    except ModelError:
        return None


def _find_subsequence(ids: Sequence[int], all_ids: list[int], start: int) -> int:
    for place in range(start, len(all_ids) - len(ids) + 1):
        if all_ids[place : place + len(ids)] == list(ids):
            return place
    raise ModelError("the tokenizer changes a text's tokens when it adds special ones; take another model")
