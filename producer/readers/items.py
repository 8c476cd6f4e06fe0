"""Items of a Python program become rows: those of a list or a generator, and the rows of a data frame."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from models.errors import JobError, UsageError
from producer.readers.column_mapping import ColumnMapping, parse_custom_id
from producer.readers.frames import frame_items
from producer.readers.limits import Limits
from producer.readers.rows import Problem, Row, Source, unexpected_problem

MISSING: Any = object()


def open_items(inputs: Any, ids: Any, columns: ColumnMapping, limits: Limits) -> Source:
    """The rows of inputs, as `rows_from_items` has them, or of a table of pandas, polars or Arrow.

    ids: also a column of such a table

    Raises UnreadableSource if a table lacks columns.
    """
    id_frame = None if ids is None else frame_items.find_frame(ids)
    if id_frame is not None:
        ids = frame_items.iter_ids(id_frame)
    frame_columns = columns.with_text_names()
    frame = frame_items.find_frame(inputs, frame_items.index_columns(frame_columns))
    if frame is None:
        return Source("the list of inputs", "item", rows_from_items(inputs, ids, columns), limits=limits)
    rows = rows_from_items(frame_items.iter_items(frame, frame_columns), ids, frame_columns)
    return Source(frame.name, "row", rows, limits=limits)


def rows_from_items(
    inputs: Iterable[Any], ids: Iterable[Any] | None, columns: ColumnMapping
) -> Iterator[Row | Problem]:
    """Yield the row of each item, or the problem that it has; raises UsageError if inputs and ids differ in number.

    inputs: texts or objects
    ids: the custom_ids, one for each input; None = those that the objects have
    """
    check_iterable(inputs)
    pairs = ((item, None) for item in inputs) if ids is None else zip_longest(inputs, ids, fillvalue=MISSING)
    return _iter_rows(pairs, columns)


def check_iterable(inputs: object) -> None:
    """Raise UsageError, with what to do instead, for inputs that are not one after the other."""
    if isinstance(inputs, (str, bytes)):
        advice = "put a single text into a list, or give the files to read with files=[…]"
    elif isinstance(inputs, Mapping):
        advice = "put a single object into a list, or give a table of columns as a DataFrame"
    elif isinstance(inputs, (set, frozenset)):
        advice = "a set has no order, so sort it into a list"
    elif not isinstance(inputs, Iterable):
        advice = "put a single one into a list"
    else:
        return
    raise UsageError(f"inputs must be an iterable, such as a list, of texts or objects; {advice}")


def _iter_rows(pairs: Iterable[tuple[Any, Any]], columns: ColumnMapping) -> Iterator[Row | Problem]:
    for number, (item, custom_id) in enumerate(pairs, start=1):
        if item is MISSING or custom_id is MISSING:
            raise UsageError(f"inputs and ids differ in number: one of them ends before item {number}", param="ids")
        record = dict(item) if isinstance(item, Mapping) else item
        try:
            row: Row | Problem = columns.map_row(number, record)
            if custom_id is not None:
                row = row._replace(custom_id=parse_custom_id(custom_id))
        except JobError as error:
            row = _explain_rejection(columns, number, record, custom_id, error)
        except Exception as error:
            row = unexpected_problem(number, error)
        yield row


def _explain_rejection(
    columns: ColumnMapping, number: int, record: object, custom_id: object, error: JobError
) -> Problem:
    """The problem of an item with all that can be kept of it; `ids` may name it although it can't be read."""
    problem = columns.explain_rejection(number, record, error)
    if custom_id is None:
        return problem
    try:
        return problem._replace(custom_id=parse_custom_id(custom_id))
    except JobError:
        return problem
