"""Rows: what a source yields, and which of its columns become a job's input and custom_id."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Self
from uuid import UUID

from models.errors import JobError, UnreadableSource, UsageError
from models.tasks.spec import TaskSpec
from producer.readers import kept_columns
from producer.readers.limits import DEFAULT_LIMITS, Limits
from producer.readers.storable import UnreadableValue, is_storable

MAX_CUSTOM_ID_CHARACTERS = 512
DEFAULT_ID_COLUMNS = ("custom_id", "id")
FILE_OFFSET = 10**12  # added to a row's place for each file before its own
MAX_COLUMNS_LISTED = 20  # in a sentence about a missing one


class Row(NamedTuple):
    """One row: where it stands (a line's or item's number, from 1), the user's own id, and the input as it came.

    `meta` has the columns that are kept with the job, fit for JSON.
    """

    location: int
    custom_id: str | None
    raw_input: object
    passthrough: dict[str, Any] | None = None


class Problem(NamedTuple):
    """Why the row that stands there can't be a job; the sentence goes on after "line 3: ". The code is stable."""

    location: int
    message: str
    code: str = "invalid_row"
    custom_id: str | None = None


def unexpected_problem(location: int, error: Exception, custom_id: str | None = None) -> Problem:
    """The problem of a row that raised what is no error of ours; its message may quote the row, so it is not named."""
    if isinstance(error, MemoryError):
        raise error  # the machine's trouble, and no row's
    return Problem(location, f"can't be taken in ({type(error).__name__})", custom_id=custom_id)


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from: its name for people, what `where` counts, and the rows, read as they are taken.

    `parts` has the name and the unit of each file where there are several; then `where` counts in FILE_STEPs too.
    """

    name: str
    unit: str
    rows: Iterator[Row | Problem]
    files: Sequence[tuple[str, str]] = ()
    limits: Limits = DEFAULT_LIMITS

    def describe_location(self, location: int) -> str:
        """A row's place in words: `line 3`, or `b.jsonl, line 3`."""
        part, number = divmod(location, FILE_OFFSET)
        if len(self.files) < 2:
            return f"{self.unit} {number}"
        name, unit = self.files[part]
        return f"{name}, {unit} {number}"


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which column holds which field of the task, and which holds the ids."""

    fields: tuple[tuple[str, str, bool], ...]  # field, column, whether it is required
    id_columns: tuple[str, ...]  # the first that a row has
    is_id_required: bool
    passthrough: tuple[str, ...] = ()  # kept with each job

    @classmethod
    def for_task(
        cls,
        spec: TaskSpec,
        input_columns: Mapping[str, str] | None = None,
        id_column: str | None = None,
        *,
        use_ids: bool = True,
        passthrough: Iterable[str] = (),
    ) -> Self:
        """The task's own names, unless `inputs` gives a field another column or `custom_id` names the ids' one."""
        input_columns = input_columns or {}
        known = [field.name for field in spec.fields]
        for name in input_columns:
            if name not in known:
                raise UsageError(f"{spec.name} has no input {name!r}; it takes: {', '.join(known)}")
        # A column that is named on purpose must be there; an optional field's own name need not.
        fields = tuple(
            (f.name, input_columns.get(f.name, f.name), f.required or f.name in input_columns) for f in spec.fields
        )
        kept = tuple(dict.fromkeys(passthrough))
        if "" in kept:
            raise UsageError("a column to keep has no name; name it as the source does: --meta COLUMN")
        if not use_ids:
            return cls(fields, (), is_id_required=False, passthrough=kept)
        return cls(
            fields, (id_column,) if id_column else DEFAULT_ID_COLUMNS, is_id_required=bool(id_column), passthrough=kept
        )

    def map_row(self, location: int, record: object) -> Row:
        """The row that a record becomes; bare text stands for the first field. Raises JobError."""
        if not isinstance(record, dict):
            if self.is_id_required:
                raise JobError("missing_id", f"has no column {self.id_columns[0]!r} to take the custom_id from")
            if self.passthrough:
                raise JobError("missing_meta", f"has no column {self.passthrough[0]!r} to keep")
            return Row(location, None, record)
        taken = {field: record[column] for field, column, _ in self.fields if column in record}
        if len(taken) < len(self.fields):
            self._check_required(record)
        meta = self._passthrough_values(record) if self.passthrough else None
        return Row(location, self._custom_id(record) if self.id_columns else None, taken, meta)

    def column_names(self) -> Iterator[str]:
        """Every column that a row may be made of."""
        yield from (column for _, column, _ in self.fields)
        yield from self.id_columns
        yield from self.passthrough

    def check_header(self, source_name: str, header: Iterable[str]) -> None:
        """Raise UnreadableSource when a table's header lacks a column."""
        header = list(header)
        for field, column, required in self.fields:
            if required and column not in header:
                raise UnreadableSource(_missing_column_message(source_name, column, header, f"--input {field}=COLUMN"))
        if self.is_id_required and self.id_columns[0] not in header:
            raise UnreadableSource(_missing_column_message(source_name, self.id_columns[0], header, "--id COLUMN"))
        for column in self.passthrough:
            if column not in header:
                raise UnreadableSource(_missing_column_message(source_name, column, header, "--meta COLUMN"))

    def _passthrough_values(self, record: dict[str, Any]) -> dict[str, Any]:
        kept = {}
        for column in self.passthrough:
            if column not in record:
                raise JobError("missing_meta", f"has no {column!r} to keep; it has: {_join_columns(record)}")
            kept[column] = record[column]
        return kept_columns.validate_passthrough(kept)

    def _check_required(self, record: dict[str, Any]) -> None:
        for _, column, required in self.fields:
            if required and column not in record:
                raise JobError("missing_field", f"has no {column!r}; it has: {_join_columns(record)}")

    def _custom_id(self, record: dict[str, Any]) -> str | None:
        for column in self.id_columns:
            value = record.get(column)
            if value is not None and value != "":
                return parse_custom_id(value, column)
        if self.is_id_required:
            raise JobError("missing_id", f"has nothing in {self.id_columns[0]!r} to take the custom_id from")
        return None


def parse_custom_id(value: object, column: str = "custom_id") -> str:
    """A custom_id as it is stored: text, or an integer, decimal or UUID as text. Raises JobError."""
    if not isinstance(value, str):
        return parse_custom_id(_id_as_text(value, column), column)
    if len(value) > MAX_CUSTOM_ID_CHARACTERS:
        raise JobError(
            "invalid_id", f"{column} has {len(value):,} characters; at most {MAX_CUSTOM_ID_CHARACTERS} are taken"
        )
    if not is_storable(value):
        raise JobError("invalid_id", f"{column} has a NUL character or half a surrogate pair; remove it")
    return value


def _id_as_text(value: object, column: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() <= 4 * MAX_CUSTOM_ID_CHARACTERS:  # Python spells none of many thousand digits
            return str(value)
        raise JobError("invalid_id", f"{column} has too many digits to be the custom_id")
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= MAX_CUSTOM_ID_CHARACTERS:
        return format(value, "f")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, UnreadableValue):
        raise JobError("invalid_id", f"{column} {value.reason}")
    raise JobError("invalid_id", f"{column} must be text, an integer or a UUID to be the custom_id")


def _missing_column_message(source_name: str, column: str, header: Iterable[str], option: str) -> str:
    return f"{source_name} has no column {column!r}; it has: {_join_columns(header)}; say which to take: {option}"


def _join_columns(columns: Iterable[str]) -> str:
    names = [repr(name[:40])[1:-1] for name in columns if name]
    more = len(names) - MAX_COLUMNS_LISTED
    return ", ".join(names[:MAX_COLUMNS_LISTED]) + (f" and {more} more" if more > 0 else "") or "no columns at all"
