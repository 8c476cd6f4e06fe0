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
from worker.adapters.tokenization.long_texts import PIECE, Stretch

# Two for each text: the frame is found with the first and tried on the second.
PROBES = (("a", "b c"), ("d e f", "g"))


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens before, between and after texts, and the type of each token where the tokenizer tells types.

    `types` has a list for each list of `special` tokens and, between them, the one type of a whole text.
    """

    special: tuple[list[int], ...]
    types: tuple[list[int], ...] | None
    text_types: tuple[int, ...]
    side: str

    @property
    def size(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.special))

    def cut(self, ids: "array[int]", room: int | None) -> "array[int]":
        """The `room` tokens that are kept of a text; the rest is cut off on the tokenizer's side."""
        if room is None or len(ids) <= room:
            return ids
        return ids[len(ids) - room :] if self.side == "left" else ids[:room]


@dataclass(frozen=True, slots=True)
class Framed(Mapping[str, list[int]]):
    """The features of a row: texts in their frame, put together only when asked for, so rows share their texts."""

    frame: Frame
    texts: tuple[Sequence[int], ...]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = ("input_ids",) if self.frame.types is None else ("input_ids", "token_type_ids")
        object.__setattr__(self, "names", names)

    def __getitem__(self, name: str) -> list[int]:
        if name == "input_ids":
            return self._woven(self.frame.special, self.texts)
        if name == "token_type_ids" and self.frame.types is not None:
            types = [[kind] * len(text) for kind, text in zip(self.frame.text_types, self.texts, strict=True)]
            return self._woven(self.frame.types, types)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 for each token of the frame, 0 for each of a text."""
        return self._woven([[1] * len(ids) for ids in self.frame.special], [[0] * len(text) for text in self.texts])

    def _woven(self, special: Sequence[list[int]], texts: Sequence[Sequence[int]]) -> list[int]:
        woven = list(special[0])
        for text, after in zip(texts, special[1:], strict=True):
            woven += text
            woven += after
        return woven


class Framing:
    """A tokenizer, split in two: the tokens of texts, and the frame for `texts` of them."""

    def __init__(self, tokenizer: Any, limit: int | None, *, texts: int = 1) -> None:
        """Raises ModelError when the frame depends on the text, or leaves no room for any."""
        self._tokenizer = tokenizer
        self.long = long_texts.of(tokenizer)
        self.frame = self._found(PROBES[0][:texts])
        if limit is not None and self.frame.size >= limit:
            raise ModelError(f"max_length {limit} leaves no room for text: {self.frame.size} are special tokens")
        # What one text may have; of a pair, both together.
        self.room = None if limit is None else limit - self.frame.size
        probe = PROBES[1][:texts]
        row = Framed(self.frame, tuple(self.tokens([text])[0] for text in probe))
        if dict(row) != self._whole(probe):
            raise ModelError("the tokenizer puts other special tokens around other texts; take another model")

    def tokens(self, texts: Sequence[str], most: int | None = None) -> list["array[int]"]:
        """The token ids of each text, neither framed nor cut.

        most: how many will be kept. Of a long text then come as many and some more, None = all.
        """
        found: list[array[int]] = [array("i")] * len(texts)
        short = [place for place, text in enumerate(texts) if self.long is None or len(text) <= PIECE]
        if short:
            for place, ids in zip(short, self.encoding([texts[place] for place in short])["input_ids"], strict=True):
                found[place] = array("i", ids)
        for place in sorted(set(range(len(texts))).difference(short)):
            found[place] = self.stretch(texts[place], most).tokens
        return found

    def stretch(self, text: str, most: int | None = None) -> Stretch:
        """The same of a long text, with the places of its tokens. Only of a fast tokenizer."""
        long = self.long
        assert long is not None
        if most is None or (text_left := long.shortened(text, most, self.frame.side)) == text:
            return long.whole(text)
        return long.read(text_left, before=0 if self.frame.side == "right" else len(text) - len(text_left))

    def encoding(self, texts: Sequence[str], **wanted: bool) -> Any:
        """All that the tokenizer gives for at least one text, neither framed nor cut."""
        return self._tokenizer(
            list(texts), add_special_tokens=False, truncation=False, padding=False, return_attention_mask=False,
            **wanted,
        )  # fmt: skip

    def _whole(self, texts: Sequence[str]) -> dict[str, list[int]]:
        return dict(self._tokenizer(*texts, truncation=False, padding=False, return_attention_mask=False))

    def _found(self, texts: Sequence[str]) -> Frame:
        whole = self._whole(texts)
        ids = whole["input_ids"]
        spans, end = [], 0
        for text in texts:
            [own] = self.tokens([text])
            start = _place(own, ids, end)
            end = start + len(own)
            spans.append(slice(start, end))
        edges = [0, *chain.from_iterable((span.start, span.stop) for span in spans), len(ids)]
        outside = [slice(*edges[place : place + 2]) for place in range(0, len(edges), 2)]
        types = whole.get("token_type_ids")
        return Frame(
            special=tuple(ids[part] for part in outside),
            types=None if types is None else tuple(types[part] for part in outside),
            text_types=() if types is None else tuple(types[span.start] for span in spans),
            side=self._tokenizer.truncation_side,
        )


def frame(tokenizer: Any, texts: int = 1) -> Frame | None:
    """The frame for so many texts, or None for a tokenizer that frames texts in a way of its own."""
    try:
        return Framing(tokenizer, None, texts=texts).frame
    except ModelError:
        return None


def _place(part: Sequence[int], whole: list[int], start: int) -> int:
    for place in range(start, len(whole) - len(part) + 1):
        if whole[place : place + len(part)] == list(part):
            return place
    raise ModelError("the tokenizer changes a text's tokens when it adds special ones; take another model")
