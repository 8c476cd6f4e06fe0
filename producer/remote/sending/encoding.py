"""Records as lines of JSON; in place of a value that JSON has not stands one that every server refuses."""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID

from models.errors import JobError
from models.tasks.fields import describe_type
from producer.readers import kept_columns
from producer.readers.column_mapping import parse_custom_id

# Half a surrogate pair, which no database stores. Null would be taken, and the value be lost without a word.
REFUSED_TEXT = "\ud800"
KEPT_REFUSAL = "{column} has a NUL character or half a surrogate pair; remove it"  # of a kept column, and of an id
FIELD_REFUSAL = "{column} has half a surrogate pair; mend its encoding"
EARLIER_LINE = re.compile(r"(?<=, which )line (\d{1,12})(?= has already$)")  # with the same custom_id
MAX_REMEMBERED = 1_000  # rows; a server names fewer

_PLAIN_TYPES = frozenset({str, int, bool, type(None)})
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)  # escaped, so that half a surrogate pair passes


@dataclass(frozen=True, slots=True)
class RecordEncoder:
    """Encodes records one by one, and remembers in which words a database's client refuses them.

    id_columns: the first that a record has is its custom_id
    field_columns: hold inputs, in which a time or a decimal is no text
    """

    id_columns: tuple[str, ...] = ()
    field_columns: Collection[str] = ()
    _problems: dict[int, dict[str, str]] = field(default_factory=dict)

    def encode(self, number: int, record: Any) -> bytes:
        """Return a record as a line; the server names what is wrong with one that is none.

        number: of the line, from 1
        """
        try:
            if type(record) is not dict:
                text = _ENCODER.encode(self._sendable_bare(number, record))
            elif _is_plain(record):
                text = _ENCODER.encode(record)
            else:
                text = _ENCODER.encode(self._sendable_record(number, record))
        except (TypeError, ValueError, RecursionError):  # a list in itself
            text = "null"
        return text.encode() + b"\n"

    def restate(self, number: int, message: str, place_of: Callable[[int], str]) -> str:
        """A server's message on a line as a sentence on the record, in the words that a value has which was not sent.

        place_of: names the record of a line
        """
        for refusal, words in self._problems.get(number, {}).items():
            message = message.replace(refusal, words)
        message = EARLIER_LINE.sub(lambda line: place_of(int(line[1])), message)
        return f"{place_of(number)}: {message}"

    def _sendable_record(self, number: int, record: dict[Any, Any]) -> dict[str, Any]:
        id_column = next((name for name in self.id_columns if record.get(name) not in (None, "")), None)
        known = {*self.id_columns, *self.field_columns}
        sendable: dict[str, Any] = {}
        for key, value in record.items():
            column = key if isinstance(key, str) else str(key) if str(key) in known else REFUSED_TEXT
            if column == id_column:
                sendable[column] = self._sendable_id(number, column, value)
            elif column in self.field_columns:
                sendable[column] = self._sendable_field(number, column, value)
            else:
                sendable[column] = self._sendable_kept(number, column, value)
        return sendable

    def _sendable_bare(self, number: int, value: Any) -> Any:
        if isinstance(value, (datetime, date, time, Decimal, UUID)) or (sendable := _sendable(value)) == REFUSED_TEXT:
            words = f"an input must be text or an object with text, not {describe_type(value)}"
            self._remember(number, FIELD_REFUSAL.format(column="text"), words)
            return REFUSED_TEXT
        return sendable

    def _sendable_id(self, number: int, column: str, value: Any) -> Any:
        try:
            return parse_custom_id(value, column)
        except JobError as error:
            self._remember(number, KEPT_REFUSAL.format(column=column), str(error))
            return REFUSED_TEXT

    def _sendable_field(self, number: int, column: str, value: Any) -> Any:
        if isinstance(value, (datetime, date, time, Decimal, UUID)) or (sendable := _sendable(value)) == REFUSED_TEXT:
            words = f"{column} must be text, not {describe_type(value)}"
            self._remember(number, FIELD_REFUSAL.format(column=column), words)
            return REFUSED_TEXT
        return sendable

    def _sendable_kept(self, number: int, column: str, value: Any) -> Any:
        try:
            kept_columns.validate_passthrough({column: value})
        except JobError as error:
            self._remember(number, KEPT_REFUSAL.format(column=column), str(error))
        return _sendable(value)

    def _remember(self, number: int, refusal: str, words: str) -> None:
        if number in self._problems or len(self._problems) < MAX_REMEMBERED:
            self._problems.setdefault(number, {})[refusal] = words


def _is_plain(record: dict[Any, Any]) -> bool:
    return all(type(name) is str for name in record) and all(
        type(value) in _PLAIN_TYPES or (type(value) is float and isfinite(value)) for value in record.values()
    )


def _sendable(value: Any) -> Any:
    """A value as Batchmill stores it in a kept column."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else REFUSED_TEXT
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, dict):
        return {key if isinstance(key, str) else REFUSED_TEXT: _sendable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sendable(item) for item in value]
    return REFUSED_TEXT
