"""The input of an invalid row is kept as far as every database can store it, so that it can be found and repaired."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

from producer.readers.column_mapping import WHOLE_ROW
from producer.readers.storable import MAX_MESSAGE_CHARACTERS, UnreadableValue, make_text_storable

MAX_CHARACTERS = 16_384  # of one row's input, keys included
MAX_DEPTH = 16
MAX_INTEGER_BITS = 256  # more digits are no number to repair, and not every reader of JSON takes them
CUT_MARK = " (its input is kept in part)"  # ends the message of a row whose input was cut


def keep_input(raw_input: object, text_field: str) -> tuple[dict[str, Any], bool]:
    """The input as a JSON object, and whether it had to be cut.

    text_field: the field that a bare text stands for
    """
    if raw_input is None:
        return {}, False
    if not isinstance(raw_input, Mapping):
        raw_input = {text_field if isinstance(raw_input, str) else WHOLE_ROW: raw_input}
    copier = _BoundedCopier(MAX_CHARACTERS)
    return copier.copy(dict(raw_input), MAX_DEPTH), copier.is_cut


def says_cut(message: str) -> bool:
    """Whether an invalid row's message says that its input was cut; a message that was cut may have had the mark."""
    return message.endswith(CUT_MARK) or len(message) >= MAX_MESSAGE_CHARACTERS


class _BoundedCopier:
    """Copies a value as JSON until its characters are used up."""

    def __init__(self, max_characters: int) -> None:
        self._characters_left = max_characters
        self.is_cut = False

    def copy(self, value: Any, levels_left: int) -> Any:
        """A copy of a value, nested at most `levels_left` levels deep."""
        match value:
            case str():
                return self._text(value)
            case None | bool():
                return value
            case int():
                return self._integer(value)
            case float():
                return value if math.isfinite(value) else str(value)
            case dict() | list() | tuple():
                return self._container(value, levels_left)
            case _:
                return self._other(value)

    def _integer(self, value: int) -> int | None:
        if value.bit_length() <= MAX_INTEGER_BITS:
            return value
        self.is_cut = True
        return None

    def _other(self, value: object) -> str | None:
        if isinstance(value, UnreadableValue):
            self.is_cut = True
            return None
        if isinstance(value, bytes):
            return self._text(value[: self._characters_left + 1].decode("utf-8", "backslashreplace"))
        return self._text(value.isoformat() if isinstance(value, datetime | date | time) else str(value))

    def _text(self, text: str) -> str:
        room = max(0, self._characters_left)
        if len(text) > room:
            self.is_cut = True
            text = text[:room] + "…"
        self._characters_left -= len(text)
        return make_text_storable(text)

    def _container(self, value: Mapping[Any, Any] | Sequence[Any], levels_left: int) -> Any:
        if not levels_left:
            self.is_cut = True
            return None
        if isinstance(value, Mapping):
            return {self._text(str(key)): self.copy(value[key], levels_left - 1) for key in self._bounded(value)}
        return [self.copy(item, levels_left - 1) for item in self._bounded(value)]

    def _bounded(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items until the characters are used up; each counts as one, so that many numbers end too."""
        for item in items:
            if self._characters_left <= 0:
                self.is_cut = True
                return
            self._characters_left -= 1
            yield item
