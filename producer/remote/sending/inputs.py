"""Inputs of a program as JSON lines in a temporary file, which is sent again if an answer is lost."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from typing import Any, BinaryIO

from models.errors import UsageError
from producer.readers.column_mapping import DEFAULT_ID_COLUMNS
from producer.readers.frames import frame_items
from producer.readers.items import MISSING, check_iterable
from producer.remote.sending.columns import CHAT_FIELD, TEXT_FIELD, FindFields, map_columns
from producer.remote.sending.encoding import RecordEncoder
from producer.submission.options import SubmitOptions

SPOOL_BYTES = 8 * 2**20  # kept in memory; more goes to disk
ID_COLUMN = "__custom_id"  # where an object's own ids are kept columns

Lines = Iterator[Any]


@contextmanager
def spool() -> Iterator[BinaryIO]:
    """Yield a temporary file, which nobody else can read and which ends with the block."""
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
        yield file  # type: ignore[misc]


def write_lines(file: BinaryIO, records: "InputRecords") -> None:
    """Write each record as a line of JSON."""
    for number, record in enumerate(records, start=1):
        file.write(records.encoder.encode(number, record))


class InputRecords:
    """The records of inputs: those of a list or a generator, or the rows of a data frame.

    unit: of a record's number, for messages
    find_fields: asks the server for the pipeline's
    id_column: the column of the ids that were given apart; None = they are in none of their own
    encoder: makes their lines
    """

    def __init__(self, inputs: Any, ids: Any, options: SubmitOptions, find_fields: FindFields) -> None:
        # Only a table's header is checked here; the server checks objects one by one.
        fields = None if frame_items.find_frame(inputs) is None else find_fields()
        columns = map_columns(options, fields, use_ids=ids is None)
        frame = frame_items.find_frame(inputs, frame_items.index_columns(columns))
        self.name = "the list of inputs" if frame is None else frame.name
        self.unit = "item" if frame is None else "row"
        if frame is None:
            check_iterable(inputs)
            records: Iterable[Any] = inputs
        else:
            records = frame_items.iter_items(frame, replace(columns.with_text_names(), keeps_all=True))
        self.id_column = ID_COLUMN if ids is not None and tuple(options.passthrough_columns()) else None
        id_columns = columns.id_columns if ids is None else (self.id_column or DEFAULT_ID_COLUMNS[0],)
        field_columns = frozenset(str(column) for _, column, _ in columns.fields)
        self.encoder = RecordEncoder(tuple(map(str, id_columns)), field_columns)
        self._records = records if ids is None else self._with_ids(records, ids, options)

    def __iter__(self) -> Iterator[Any]:
        return map(_plain, self._records)

    def restate(self, number: int, message: str) -> str:
        """A sentence on the record of a line."""
        sentence = self.encoder.restate(number, message, lambda number: f"{self.unit} {number}")
        return sentence.replace(ID_COLUMN, DEFAULT_ID_COLUMNS[0])

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


def _plain(record: Any) -> Any:
    return dict(record) if isinstance(record, Mapping) else record
