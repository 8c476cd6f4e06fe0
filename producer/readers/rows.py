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
from producer.readers.storable import Unreadable, is_storable

LONGEST_CUSTOM_ID = 512
USUAL_IDS = ("custom_id", "id")
FILE_STEP = 10**12  # added to a row's place for each file before its own
COLUMNS_NAMED = 20  # in a sentence about a missing one


class Row(NamedTuple):
    """One row: where it stands (a line's or item's number, from 1), the user's own id, and the input as it came.

    `meta` has the columns that are kept with the job, fit for JSON.
    """

    where: int
    custom_id: str | None
    raw: object
    meta: dict[str, Any] | None = None


class Problem(NamedTuple):
    """Why the row that stands there can't be a job; the sentence goes on after "line 3: ". The code is stable."""

    where: int
    sentence: str
    code: str = "invalid_row"
    custom_id: str | None = None


def unexpected(where: int, error: Exception, custom_id: str | None = None) -> Problem:
    """The problem of a row that raised what is no error of ours; its message may quote the row, so it is not named."""
    if isinstance(error, MemoryError):
        raise error  # the machine's trouble, and no row's
    return Problem(where, f"can't be taken in ({type(error).__name__})", custom_id=custom_id)


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from: its name for people, what `where` counts, and the rows, read as they are taken.

    `parts` has the name and the unit of each file where there are several; then `where` counts in FILE_STEPs too.
    """

    name: str
    unit: str
    rows: Iterator[Row | Problem]
    parts: Sequence[tuple[str, str]] = ()
    limits: Limits = DEFAULT_LIMITS

    def at(self, where: int) -> str:
        """A row's place in words: `line 3`, or `b.jsonl, line 3`."""
        part, number = divmod(where, FILE_STEP)
        if len(self.parts) < 2:
            return f"{self.unit} {number}"
        name, unit = self.parts[part]
        return f"{name}, {unit} {number}"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds which field of the task, and which holds the ids."""

    fields: tuple[tuple[str, str, bool], ...]  # field, column, whether it is required
    ids: tuple[str, ...]  # the first that a row has
    id_is_required: bool
    meta: tuple[str, ...] = ()  # kept with each job

    @classmethod
    def of(
        cls, spec: TaskSpec, inputs: Mapping[str, str] | None = None, custom_id: str | None = None, *, ids: bool = True,
        meta: Iterable[str] = (),
    ) -> Self:  # fmt: skip
        """The task's own names, unless `inputs` gives a field another column or `custom_id` names the ids' one."""
        inputs = inputs or {}
        known = [field.name for field in spec.fields]
        for name in inputs:
            if name not in known:
                raise UsageError(f"{spec.name} has no input {name!r}; it takes: {', '.join(known)}")
        # A column that is named on purpose must be there; an optional field's own name need not.
        fields = tuple((f.name, inputs.get(f.name, f.name), f.required or f.name in inputs) for f in spec.fields)
        kept = tuple(dict.fromkeys(meta))
        if "" in kept:
            raise UsageError("a column to keep has no name; name it as the source does: --meta COLUMN")
        if not ids:
            return cls(fields, (), id_is_required=False, meta=kept)
        return cls(fields, (custom_id,) if custom_id else USUAL_IDS, id_is_required=bool(custom_id), meta=kept)

    def row(self, where: int, record: object) -> Row:
        """The row that a record becomes; bare text stands for the first field. Raises JobError."""
        if not isinstance(record, dict):
            if self.id_is_required:
                raise JobError("missing_id", f"has no column {self.ids[0]!r} to take the custom_id from")
            if self.meta:
                raise JobError("missing_meta", f"has no column {self.meta[0]!r} to keep")
            return Row(where, None, record)
        taken = {field: record[column] for field, column, _ in self.fields if column in record}
        if len(taken) < len(self.fields):
            self._insist(record)
        meta = self._kept(record) if self.meta else None
        return Row(where, self._custom_id(record) if self.ids else None, taken, meta)

    def named(self) -> Iterator[str]:
        """Every column that a row may be made of."""
        yield from (column for _, column, _ in self.fields)
        yield from self.ids
        yield from self.meta

    def check(self, name: str, header: Iterable[str]) -> None:
        """Raise UnreadableSource when a table's header lacks a column."""
        header = list(header)
        for field, column, required in self.fields:
            if required and column not in header:
                raise UnreadableSource(_lacking(name, column, header, f"--input {field}=COLUMN"))
        if self.id_is_required and self.ids[0] not in header:
            raise UnreadableSource(_lacking(name, self.ids[0], header, "--id COLUMN"))
        for column in self.meta:
            if column not in header:
                raise UnreadableSource(_lacking(name, column, header, "--meta COLUMN"))

    def _kept(self, record: dict[str, Any]) -> dict[str, Any]:
        kept = {}
        for column in self.meta:
            if column not in record:
                raise JobError("missing_meta", f"has no {column!r} to keep; it has: {_listed(record)}")
            kept[column] = record[column]
        return kept_columns.checked(kept)

    def _insist(self, record: dict[str, Any]) -> None:
        for _, column, required in self.fields:
            if required and column not in record:
                raise JobError("missing_field", f"has no {column!r}; it has: {_listed(record)}")

    def _custom_id(self, record: dict[str, Any]) -> str | None:
        for column in self.ids:
            value = record.get(column)
            if value is not None and value != "":
                return checked_id(value, column)
        if self.id_is_required:
            raise JobError("missing_id", f"has nothing in {self.ids[0]!r} to take the custom_id from")
        return None


def checked_id(value: object, column: str = "custom_id") -> str:
    """A custom_id as it is stored: text, or an integer, decimal or UUID as text. Raises JobError."""
    if not isinstance(value, str):
        return checked_id(_spelled(value, column), column)
    if len(value) > LONGEST_CUSTOM_ID:
        raise JobError("invalid_id", f"{column} has {len(value):,} characters; at most {LONGEST_CUSTOM_ID} are taken")
    if not is_storable(value):
        raise JobError("invalid_id", f"{column} has a NUL character or half a surrogate pair; remove it")
    return value


def _spelled(value: object, column: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() <= 4 * LONGEST_CUSTOM_ID:  # Python spells none of many thousand digits
            return str(value)
        raise JobError("invalid_id", f"{column} has too many digits to be the custom_id")
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= LONGEST_CUSTOM_ID:
        return format(value, "f")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Unreadable):
        raise JobError("invalid_id", f"{column} {value.reason}")
    raise JobError("invalid_id", f"{column} must be text, an integer or a UUID to be the custom_id")


def _lacking(name: str, column: str, header: Iterable[str], option: str) -> str:
    return f"{name} has no column {column!r}; it has: {_listed(header)}; say which to take: {option}"


def _listed(columns: Iterable[str]) -> str:
    names = [repr(name[:40])[1:-1] for name in columns if name]
    more = len(names) - COLUMNS_NAMED
    return ", ".join(names[:COLUMNS_NAMED]) + (f" and {more} more" if more > 0 else "") or "no columns at all"
