"""The special tokens that a tokenizer puts around a text or a pair of texts, found out once.

A text that is part of many rows (one per label, or overlapping windows) is then tokenized once and cut anywhere,
independently of the tokenizer's own truncation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import ModelError
from worker.adapters.tokenization import long_texts
from worker.adapters.tokenization.batch_tokenizer import BatchTokenizer
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS, Integers, TokenSpan
from worker.adapters.tokenization.token_array import TokenArray, token_array

# The template is found with the first pair and verified with the second.
PROBE_TEXTS = (("a", "b c"), ("d e f", "g"))


@dataclass(frozen=True, slots=True)
class Template:
    """The special tokens before, between and after texts, and the token types if the tokenizer has any.

    special_ids: one array before each text and one after the last.
    special_types: the types of `special_ids`, None = the tokenizer has no types.
    text_types: the type of each text's tokens.
    truncation_side: the side on which the tokenizer cuts, "left" or "right".
    """

    special_ids: tuple["TokenArray[int]", ...]
    special_types: tuple["TokenArray[int]", ...] | None
    text_types: tuple[int, ...]
    truncation_side: str

    @property
    def token_count(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.special_ids))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of a row's features."""
        return ("input_ids",) if self.special_types is None else ("input_ids", "token_type_ids")

    @property
    def max_type(self) -> int:
        """The largest type of a token, 0 if the tokenizer has no types."""
        return max(chain(self.text_types, *(self.special_types or ())), default=0)

    def truncate(self, ids: "TokenArray[int]", max_tokens: int | None) -> "TokenArray[int]":
        """Cut a text to `max_tokens` on the tokenizer's side, None = no limit."""
        if max_tokens is None or len(ids) <= max_tokens:
            return ids
        return ids[len(ids) - max_tokens :] if self.truncation_side == "left" else ids[:max_tokens]


class TemplatedRow(Mapping[str, "TokenArray[int]"]):
    """The features of a row: texts in a template.

    text_lengths: the tokens of each text, special ones excluded.
    """

    __slots__ = ("_input_ids", "template", "text_lengths")

    def __init__(self, template: Template, input_ids: "TokenArray[int]", text_lengths: tuple[int, ...]) -> None:
        self.template, self._input_ids, self.text_lengths = template, input_ids, text_lengths

    @classmethod
    def from_texts(cls, template: Template, texts: Sequence["TokenArray[int]"]) -> "TemplatedRow":
        """Put texts into their template."""
        return TemplatedRow(template, interleave(template.special_ids, texts), tuple(map(len, texts)))

    def __getitem__(self, name: str) -> "TokenArray[int]":
        if name == "input_ids":
            return self.input_ids
        template = self.template
        if name == "token_type_ids" and template.special_types is not None:
            types = [
                token_array((kind,)) * length
                for kind, length in zip(template.text_types, self.text_lengths, strict=True)
            ]
            return interleave(template.special_types, types)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.template.names)

    def __len__(self) -> int:
        return len(self.template.names)

    @property
    def input_ids(self) -> "TokenArray[int]":
        """All tokens of the row."""
        return self._input_ids

    @property
    def texts(self) -> tuple["TokenArray[int]", ...]:
        """The texts without special tokens."""
        texts, start = [], 0
        for special, length in zip(self.template.special_ids, self.text_lengths, strict=False):
            start += len(special)
            texts.append(self.input_ids[start : start + length])
            start += length
        return tuple(texts)

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 for each special token, 0 for each token of a text."""
        mask = [1] * len(self.template.special_ids[0])
        for length, special in zip(self.text_lengths, self.template.special_ids[1:], strict=True):
            mask += [0] * length
            mask += [1] * len(special)
        return mask


def have_equal_templates(rows: Sequence[TemplatedRow]) -> bool:
    """Return whether all rows have one template; texts and pairs of texts may share a pass."""
    return len({id(row.template) for row in rows}) == 1


def join_types(rows: Sequence[TemplatedRow]) -> npt.NDArray[np.int64]:
    """Return the `token_type_ids` of all rows of one template, one after the other."""
    template = rows[0].template
    assert template.special_types is not None
    # Runs of one type: each special token, and each text.
    types: list[int] = [*template.special_types[0]]
    text_columns = []
    for kind, special in zip(template.text_types, template.special_types[1:], strict=True):
        text_columns.append(len(types))
        types += [kind, *special]
    lengths = np.ones((len(rows), len(types)), np.int64)
    lengths[:, text_columns] = [row.text_lengths for row in rows]
    return np.repeat(np.tile(np.array(types, np.int64), len(rows)), lengths.reshape(-1))


def interleave(special_parts: Sequence["TokenArray[int]"], texts: Sequence["TokenArray[int]"]) -> "TokenArray[int]":
    """Return one array of a special part before each text and one after the last."""
    row = special_parts[0]
    for text, special_part in zip(texts, special_parts[1:], strict=True):
        row = row + text + special_part
    return row


class SpecialTokens:
    """A tokenizer in two parts: the tokens of texts, and the template around `texts` of them."""

    def __init__(self, tokenizer: Any, max_length: int | None, *, texts: int = 1) -> None:
        """Raises ModelError when the template depends on the text, or `max_length` leaves no room for text."""
        self._tokenizer = tokenizer
        self._batch_tokenizer = BatchTokenizer(tokenizer, add_special_tokens=False, has_types=False)
        self.long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        self.template = self._find_template(PROBE_TEXTS[0][:texts])
        if max_length is not None and self.template.token_count >= max_length:
            raise ModelError(
                f"max_length {max_length} leaves no room for text: {self.template.token_count} are special tokens"
            )
        # The most tokens of a text, or of both texts of a pair together.
        self.max_text_tokens = None if max_length is None else max_length - self.template.token_count
        probe = PROBE_TEXTS[1][:texts]
        row = TemplatedRow.from_texts(self.template, [self.tokenize([text])[0] for text in probe])
        if {name: list(values) for name, values in row.items()} != self._tokenize_with_special(probe):
            raise ModelError("the tokenizer puts other special tokens around other texts; take another model")

    def tokenize(self, texts: Sequence[str], max_tokens: int | None = None) -> list["TokenArray[int]"]:
        """Return the token ids of each text, without special tokens and not cut.

        max_tokens: tokens that the caller will keep, None = all. A long text gives at least one more, if it has it.
        """
        ids: dict[int, TokenArray[int]] = {}
        short: list[int] = []
        for index, text in enumerate(texts):
            if self.long_text_tokenizer is None or len(text) <= PIECE_CHARACTERS:
                short.append(index)
            else:
                ids[index] = self.tokenize_long(text, max_tokens).id_array
        if short:
            features, _ = self._batch_tokenizer.tokenize([texts[index] for index in short])
            ids |= {index: row["input_ids"] for index, row in zip(short, features, strict=True)}
        return [ids[index] for index in range(len(texts))]

    def tokenize_long(self, text: str, max_tokens: int | None = None) -> TokenSpan:
        """Tokenize a long text like `tokenize`, with the offsets of its tokens. Requires a fast tokenizer."""
        tokenizer = self.long_text_tokenizer
        assert tokenizer is not None
        if max_tokens is None:
            return tokenizer.tokenize(text)
        side = self.template.truncation_side
        shortened = tokenizer.truncate_text(text, max_tokens, side)
        if shortened == text:
            return tokenizer.tokenize(text)
        return tokenizer.tokenize_at_once(shortened, offset=0 if side == "right" else len(text) - len(shortened))

    def tokenize_with_offsets(self, texts: Sequence[str]) -> list["tuple[TokenArray[int], Integers]"]:
        """Return each text's tokens and their offsets in it, for at least one text. Requires a fast tokenizer."""
        encodings = self._batch_tokenizer.tokenize_with_positions(texts)
        return [(token_array(encoding.ids), long_texts.offsets_of(encoding)) for encoding in encodings]

    def _tokenize_with_special(self, texts: Sequence[str]) -> dict[str, list[int]]:
        return dict(self._tokenizer(*texts, truncation=False, padding=False, return_attention_mask=False))

    def _find_template(self, texts: Sequence[str]) -> Template:
        features = self._tokenize_with_special(texts)
        ids = features["input_ids"]
        spans, end = [], 0
        for text in texts:
            [text_ids] = self.tokenize([text])
            start = _find_subsequence(text_ids, ids, end)
            end = start + len(text_ids)
            spans.append(slice(start, end))
        edges = [0, *chain.from_iterable((span.start, span.stop) for span in spans), len(ids)]
        special_parts = [slice(*edges[index : index + 2]) for index in range(0, len(edges), 2)]
        types = features.get("token_type_ids")
        return Template(
            special_ids=tuple(token_array(ids[part]) for part in special_parts),
            special_types=None if types is None else tuple(token_array(types[part]) for part in special_parts),
            text_types=() if types is None else tuple(types[span.start] for span in spans),
            truncation_side=self._tokenizer.truncation_side,
        )


def template_for(tokenizer: Any, texts: int = 1) -> Template | None:
    """Return the template around that many texts, None = it is not the same for every text."""
    try:
        return SpecialTokens(tokenizer, None, texts=texts).template
    except ModelError:
        return None


def _find_subsequence(ids: Sequence[int], all_ids: list[int], start: int) -> int:
    for index in range(start, len(all_ids) - len(ids) + 1):
        if all_ids[index : index + len(ids)] == list(ids):
            return index
    raise ModelError("the tokenizer changes a text's tokens when it adds special ones; take another model")
