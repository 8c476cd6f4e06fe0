"""A column mapping says which columns of a source become a job's input, custom_id and passthrough values."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, ClassVar, Self
from uuid import UUID

from models.errors import JobError, UnreadableSource, UsageError
from models.tasks.spec import TaskSpec
from producer.readers import given_names, kept_columns
from producer.readers.mapping_advice import COMMAND_ADVICE, MappingAdvice
from producer.readers.rows import NO_HINTS, Problem, Row
from producer.readers.storable import UnreadableValue, is_storable

MAX_CUSTOM_ID_CHARACTERS = 512
DEFAULT_ID_COLUMNS = ("custom_id", "id")
WHOLE_ROW = "row"  # key of the kept input of an invalid row whose fields are unknown
MAX_COLUMNS_LISTED = 20  # in a message about a missing column
NO_MAPPING = "input_columns must be a mapping of inputs to columns, such as {'text': 'body'}"
ALL_OTHER_COLUMNS = "*"  # as a passthrough column: all that are neither a field nor the custom_id


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """The columns that hold the task's fields, the custom_id and the passthrough values."""

    fields: tuple[tuple[str, str, bool], ...]  # field, column, whether it is required
    id_columns: tuple[str, ...]  # the first one that a row has counts
    is_id_required: bool
    passthrough: tuple[str, ...] = ()  # kept with each job
    keeps_all: bool = False  # all other columns are kept, too
    advice: MappingAdvice = COMMAND_ADVICE
    header: tuple[str, ...] = ()  # of a table whose file has none

    all_includes_named: ClassVar[bool] = True  # a named passthrough column is nothing more than all other columns

    @classmethod
    def for_task(
        cls,
        spec: TaskSpec,
        input_columns: Mapping[str, str] | None = None,
        id_column: str | None = None,
        *,
        use_ids: bool = True,
        passthrough: Iterable[str] = (),
        advice: MappingAdvice = COMMAND_ADVICE,
    ) -> Self:
        """A mapping for a task.

        input_columns: columns by field; a field that is not named has a column of its name.
        id_column: the column of the custom_id; None = `custom_id` or `id`, if there is one.
        use_ids: False = rows get no custom_id.
        passthrough: columns to keep with each job; "*" = all that the row has besides.
        """
        input_columns = {} if input_columns is None else input_columns
        if not isinstance(input_columns, Mapping):
            raise UsageError(NO_MAPPING, param="input_columns")
        field_names = [field.name for field in spec.fields]
        for name in input_columns:
            if name not in field_names:
                message = f"{spec.name} has no input {name[:80]!r}; it takes: {', '.join(field_names)}"
                raise UsageError(message, param="input_columns")
        # A column that was named explicitly must exist; the default column of an optional field need not.
        fields = tuple(
            (field.name, input_columns.get(field.name, field.name), field.required or field.name in input_columns)
            for field in spec.fields
        )
        passthrough = tuple(passthrough)
        if not all(isinstance(name, Hashable) for name in (*input_columns.values(), id_column, *passthrough)):
            raise UsageError("a column is named by text, or by a number as in a table of pandas")
        passthrough = tuple(dict.fromkeys(passthrough))
        if "" in passthrough:
            raise UsageError(f"a column to keep has no name; {advice.passthrough}", param="passthrough")
        keeps_all = ALL_OTHER_COLUMNS in passthrough
        if keeps_all:
            passthrough = () if cls.all_includes_named else tuple(n for n in passthrough if n != ALL_OTHER_COLUMNS)
        # Not by its truth: a frame of pandas may have a column 0.
        named_ids = DEFAULT_ID_COLUMNS if id_column is None or id_column == "" else (id_column,)
        is_id_required = use_ids and named_ids != DEFAULT_ID_COLUMNS
        return cls(fields, named_ids if use_ids else (), is_id_required, passthrough, keeps_all, advice)

    def with_header(self, names: object) -> Self:
        """The mapping for a table whose file has no header; raises UsageError.

        names: of all its columns, as `given_names` reads them; None = the file has a header
        """
        return self if names is None else replace(self, header=given_names.parse_names(names))

    def with_text_names(self) -> Self:
        """The mapping for a table that has all its columns' names as text, such as '0' for column 0 of pandas."""
        fields = tuple((field, str(column), required) for field, column, required in self.fields)
        return replace(
            self,
            fields=fields,
            id_columns=tuple(map(str, self.id_columns)),
            passthrough=tuple(map(str, self.passthrough)),
        )

    def map_row(self, location: int, record: object) -> Row:
        """The row of a record; a bare text is the value of the first field. Raises JobError."""
        if not isinstance(record, dict):
            if errors := self._bare_value_errors():
                raise errors[0]
            return Row(location, None, record)
        raw_input = self._raw_input(record)
        if len(raw_input) < len(self.fields) and (errors := self._missing_field_errors(record)):
            raise errors[0]
        passthrough = self._passthrough_values(record) if self.passthrough or self.keeps_all else None
        return Row(location, self._custom_id(record) if self.id_columns else None, raw_input, passthrough)

    def explain_rejection(
        self, location: int, record: object, rejection: JobError, hints: Mapping[str, str] = NO_HINTS
    ) -> Problem:
        """All problems of a record that can't be mapped, with all that can be kept of it.

        rejection: the first error
        hints: advice to append, by error code
        """
        custom_id, raw_input = None, record
        if isinstance(record, dict):
            errors = self._missing_field_errors(record) + self._passthrough_errors(record)
            try:
                custom_id = self._custom_id(record)
            except JobError as error:
                errors.append(error)
            raw_input = self._raw_input(record) or {WHOLE_ROW: record}
        else:
            errors = self._bare_value_errors()
        kept = self.keep_passthrough(record)
        problem = Problem.from_errors(location, errors or [rejection], hints)
        return problem._replace(custom_id=custom_id, raw_input=raw_input, passthrough=kept)

    def identify(self, problem: Problem, record: object) -> Problem:
        """The problem of a record that could not be mapped at all, with what names the record."""
        return problem

    def keep_passthrough(self, record: object) -> dict[str, Any] | None:
        """The passthrough columns of an invalid row; null where a record has none, or none that can be kept."""
        values = record if isinstance(record, dict) else {}
        kept = self._other_columns(record) if self.keeps_all and isinstance(record, dict) else {}
        kept |= {column: values.get(column) for column in self.passthrough}
        return kept_columns.keep_valid(kept) if kept else None

    def column_names(self, header: Iterable[str]) -> Iterator[str]:
        """All columns that a row may be made of, in a table with this header."""
        if self.keeps_all:
            yield from header
        yield from (column for _, column, _ in self.fields)
        yield from self.id_columns
        yield from self.passthrough

    def names_of(self, record: Mapping[str, Any]) -> Iterable[str]:
        """The names of all columns that a record has, for messages."""
        return record

    def restore_cells(self, records: Iterable[tuple[int, dict[str, str]] | Problem]) -> Iterable[Any]:
        """The records of CSV as they were before they were exported; here they are as their file has them."""
        return records

    def check_header(self, source_name: str, header: Iterable[str]) -> None:
        """Raise UnreadableSource if a table's header lacks a required column."""
        header = list(header)
        for field, column, required in self.fields:
            if required and column not in header:
                advice = self.advice.field.format(field=field)
                raise UnreadableSource(missing_column_message(source_name, column, header, advice))
        if self.is_id_required and self.id_columns[0] not in header:
            raise UnreadableSource(missing_column_message(source_name, self.id_columns[0], header, self.advice.id))
        for column in self.passthrough:
            if column not in header:
                raise UnreadableSource(missing_column_message(source_name, column, header, self.advice.passthrough))

    def _raw_input(self, record: dict[str, Any]) -> dict[str, Any]:
        return {field: record[column] for field, column, _ in self.fields if column in record}

    def _other_columns(self, record: dict[str, Any]) -> dict[str, Any]:
        used = [column for _, column, _ in self.fields]
        if (id_column := self._id_column(record)) is not None:
            used.append(id_column)
        return {column: value for column, value in record.items() if column not in used}

    def _passthrough_values(self, record: dict[str, Any]) -> dict[str, Any] | None:
        if errors := self._missing_passthrough_errors(record):
            raise errors[0]
        values = self._other_columns(record) if self.keeps_all else {}
        values |= {column: record[column] for column in self.passthrough}
        return kept_columns.validate_passthrough(values) if values else None

    def _passthrough_errors(self, record: dict[str, Any]) -> list[JobError]:
        errors = self._missing_passthrough_errors(record)
        kept = self._other_columns(record) if self.keeps_all else {}
        kept |= {name: record[name] for name in self.passthrough if name in record}
        try:
            kept_columns.validate_passthrough(kept)
        except JobError as error:
            errors.append(error)
        return errors

    def _missing_passthrough_errors(self, record: dict[str, Any]) -> list[JobError]:
        missing = [column for column in self.passthrough if column not in record]
        names = _join_columns(self.names_of(record)) if missing else ""
        return [JobError("missing_passthrough", f"has no {column!r} to keep; it has: {names}") for column in missing]

    def _missing_field_errors(self, record: dict[str, Any]) -> list[JobError]:
        return [
            JobError("missing_field", f"has no {column!r}; it has: {_join_columns(self.names_of(record))}")
            for _, column, required in self.fields
            if required and column not in record
        ]

    def _bare_value_errors(self) -> list[JobError]:
        """The columns that a value without columns lacks."""
        errors = [JobError("missing_passthrough", f"has no column {column!r} to keep") for column in self.passthrough]
        if self.is_id_required:
            errors.insert(0, JobError("missing_id", f"has no column {self.id_columns[0]!r} to take the custom_id from"))
        return errors

    def _custom_id(self, record: dict[str, Any]) -> str | None:
        if (column := self._id_column(record)) is not None:
            return parse_custom_id(record[column], column)
        if self.is_id_required:
            raise JobError("missing_id", f"has nothing in {self.id_columns[0]!r} to take the custom_id from")
        return None

    def _id_column(self, record: dict[str, Any]) -> str | None:
        return next((column for column in self.id_columns if record.get(column) not in (None, "")), None)


def check_unique(source_name: str, header: Iterable[str], advice: str = "rename one") -> None:
    """Raise UnreadableSource if a header has two columns of one name; several may have none."""
    repeated = next((name for name, count in Counter(header).items() if name and count > 1), None)
    if repeated is not None:
        raise UnreadableSource(f"{source_name} has two columns {repeated[:40]!r}; {advice}")


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
        if value.bit_length() <= 4 * MAX_CUSTOM_ID_CHARACTERS:  # Python does not format thousands of digits
            return str(value)
        raise JobError("invalid_id", f"{column} has too many digits to be the custom_id")
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= MAX_CUSTOM_ID_CHARACTERS:
        return format(value, "f")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, UnreadableValue):
        raise JobError("invalid_id", f"{column} {value.reason}")
    raise JobError("invalid_id", f"{column} must be text, an integer or a UUID to be the custom_id")


def missing_column_message(source_name: str, column: str, header: Iterable[str], advice: str) -> str:
    """The message for a source without a required column."""
    return f"{source_name} has no column {column!r}; it has: {_join_columns(header)}; {advice}"


def _join_columns(columns: Iterable[str]) -> str:
    names = [repr(name[:40])[1:-1] for name in columns if name]
    more = len(names) - MAX_COLUMNS_LISTED
    return ", ".join(names[:MAX_COLUMNS_LISTED]) + (f" and {more} more" if more > 0 else "") or "no columns at all"
