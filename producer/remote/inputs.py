"""Inputs of a program as JSON lines in a temporary file, which is sent again if an answer is lost."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from itertools import zip_longest
from typing import Any, BinaryIO
from uuid import UUID

from models.errors import UsageError
from producer.readers.frames import frame_items
from producer.readers.items import MISSING, check_iterable
from producer.readers.mapping_advice import PYTHON_ADVICE
from producer.readers.rows import DEFAULT_ID_COLUMNS, ColumnMapping
from producer.submission.options import SubmitOptions

SPOOL_BYTES = 8 * 2**20  # kept in memory; more goes to disk
ID_COLUMN = "__custom_id"  # where an object's own ids are kept columns
TEXT_FIELD, CHAT_FIELD = "text", "messages"  # what a bare text, or the messages of a chat, are for every task of ours

Lines = Iterator[Any]


@contextmanager
def spool() -> Iterator[BinaryIO]:
    """Yield a temporary file, which nobody else can read and which ends with the block."""
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
        yield file  # type: ignore[misc]


def write_lines(file: BinaryIO, records: Iterable[Any]) -> int:
    """Write each record as a line of JSON, and return their number."""
    count = 0
    for record in records:
        file.write(encode(record))
        count += 1
    return count


def encode(record: Any) -> bytes:
    """Return a record as a line of JSON; the server names what is wrong with one that is none."""
    try:
        text = _ENCODER.encode(record)
    except (TypeError, ValueError, RecursionError):  # a key that is no text, or a list in itself
        text = "null"
    return text.encode() + b"\n"


class InputRecords:
    """The records of inputs: those of a list or a generator, or the rows of a data frame.

    unit: of a record's number, for messages
    id_column: the column of the ids that were given apart; None = they are in none of their own
    """

    def __init__(self, inputs: Any, ids: Any, options: SubmitOptions) -> None:
        columns = _known_columns(options, use_ids=ids is None)
        frame = frame_items.find_frame(inputs, frame_items.index_columns(columns))
        self.name = "the list of inputs" if frame is None else frame.name
        self.unit = "item" if frame is None else "row"
        if frame is None:
            check_iterable(inputs)
            records: Iterable[Any] = inputs
        else:
            records = frame_items.iter_items(frame, replace(columns.with_text_names(), keeps_all=True))
        self.id_column = ID_COLUMN if ids is not None and tuple(options.passthrough_columns()) else None
        self._records = records if ids is None else self._with_ids(records, ids, options)

    def __iter__(self) -> Iterator[Any]:
        return map(_plain, self._records)

    def _with_ids(self, records: Iterable[Any], ids: Any, options: SubmitOptions) -> Iterator[Any]:
        id_frame = frame_items.find_frame(ids)
        ids = ids if id_frame is None else frame_items.iter_ids(id_frame)
        names = options.input_columns if isinstance(options.input_columns, Mapping) else {}
        for number, (record, custom_id) in enumerate(zip_longest(records, ids, fillvalue=MISSING), start=1):
            if record is MISSING or custom_id is MISSING:
                raise UsageError(f"inputs and ids differ in number: one of them ends before item {number}")
            if isinstance(record, Mapping):
                fields = dict(record)
            else:
                field = CHAT_FIELD if isinstance(record, list) else TEXT_FIELD
                fields = {names.get(field, field): record}
            yield self._with_id(fields, custom_id, number)

    def _with_id(self, fields: dict[Any, Any], custom_id: Any, number: int) -> dict[Any, Any]:
        if self.id_column is None:
            return {name: value for name, value in fields.items() if name not in DEFAULT_ID_COLUMNS} | {
                DEFAULT_ID_COLUMNS[0]: custom_id
            }
        if custom_id is None:
            raise UsageError(f"item {number} has no id; over HTTP, ids beside kept columns name every item")
        return fields | {self.id_column: custom_id}


def _known_columns(options: SubmitOptions, *, use_ids: bool) -> ColumnMapping:
    """The columns that the options name; only the server knows the other fields of the task."""
    named = options.input_columns or {}
    if not isinstance(named, Mapping):
        raise UsageError("input_columns must be a mapping of inputs to columns, such as {'text': 'body'}")
    id_columns = DEFAULT_ID_COLUMNS if options.id_column is None else (options.id_column,)
    passthrough = tuple(options.passthrough_columns())
    return ColumnMapping(
        tuple((field, column, True) for field, column in named.items()) or ((TEXT_FIELD, TEXT_FIELD, False),),
        id_columns if use_ids else (),
        use_ids and options.id_column is not None,
        tuple(name for name in passthrough if name != "*"),
        keeps_all="*" in passthrough,
        advice=PYTHON_ADVICE,
    )


def _plain(record: Any) -> Any:
    return dict(record) if isinstance(record, Mapping) else record


def _json_value(value: object) -> object:
    """A value that JSON has not, as Batchmill stores it in a kept column; null for what it does not store."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return format(value, "f") if isinstance(value, Decimal) and value.is_finite() else str(value)
    return dict(value) if isinstance(value, Mapping) else None


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_json_value)  # escaped, so that half a surrogate pair passes
