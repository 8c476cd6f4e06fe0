"""The columns of results: a mapping by dotted names, such as text=output.summary_text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from models.errors import JobError, UnreadableSource, UsageError
from producer.readers.column_mapping import DEFAULT_ID_COLUMNS, ColumnMapping, missing_column_message
from producer.readers.mapping_advice import WRITE_NULL
from producer.readers.results import dotted_names
from producer.readers.results.dotted_names import MISSING
from producer.readers.results.result_record import ResultRecord
from producer.readers.rows import NO_HINTS, Problem, Row


class _NamedValues(dict[str, Any]):
    """The values that a mapping names, in place of a whole result."""

    def __init__(self, record: ResultRecord, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.record = record


@dataclass(frozen=True, slots=True)
class ResultColumns(ColumnMapping):
    """The dotted names in a result that hold the task's fields, the custom_id and the passthrough values.

    The custom_id is that of the result, unless another name is given. All passthrough columns (`*`) are those that were
    kept with the source's jobs; other names may be given beside them.

    names: all dotted names that it reads
    """

    names: tuple[str, ...] = field(init=False, repr=False)

    all_includes_named: ClassVar[bool] = False

    def __post_init__(self) -> None:
        # Built once, because they are used for every row. Not `id`, which is no column of results: a kept column of
        # that name need not be unique.
        ids = ("custom_id",) if self.id_columns == DEFAULT_ID_COLUMNS else self.id_columns
        names = (*(name for _, name, _ in self.fields), *ids, *self.passthrough)
        if not all(isinstance(name, str) for name in names):
            raise UsageError("the names of what a result has must be text, such as 'output.label'")
        object.__setattr__(self, "names", names)

    def map_row(self, location: int, record: object) -> Row:
        """The row of a result, which knows where it comes from. Raises JobError."""
        assert isinstance(record, ResultRecord)
        row = ColumnMapping.map_row(self, location, self._select(record))
        return row._replace(origin=record.origin)

    def explain_rejection(
        self, location: int, record: object, rejection: JobError, hints: Mapping[str, str] = NO_HINTS
    ) -> Problem:
        """All problems of a result that can't be mapped, with all that can be kept of it."""
        assert isinstance(record, ResultRecord)
        values = self._select(record)
        hints = {code: hint.removesuffix(WRITE_NULL) for code, hint in hints.items()}
        problem = ColumnMapping.explain_rejection(self, location, values, rejection, hints)
        return problem._replace(origin=record.origin)

    def identify(self, problem: Problem, record: object) -> Problem:
        """The problem with the result's origin and custom_id; one of another name is in a document, and not read."""
        assert isinstance(record, ResultRecord)
        custom_id = record["custom_id"] or None if "custom_id" in self.id_columns else None
        return problem._replace(origin=record.origin, custom_id=custom_id)

    def names_of(self, record: Mapping[str, Any]) -> Iterable[str]:
        """The dotted names that a result has."""
        return dotted_names.list_names(record.record if isinstance(record, _NamedValues) else record)

    def check_names(self, source_name: str, records: Iterable[ResultRecord]) -> None:
        """Raise UnreadableSource if there are results, and none of them has what a required name stands for."""
        advice_by_name = dict(self._required_names())
        seen: dict[str, None] = {}
        for record in records:
            for name in [name for name in advice_by_name if dotted_names.find_value(record, name) is not MISSING]:
                del advice_by_name[name]
            if not advice_by_name:
                return
            if len(seen) < dotted_names.MAX_NAMES:
                seen |= dict.fromkeys(self.names_of(record))
        if seen:
            name, advice = next(iter(advice_by_name.items()))
            raise UnreadableSource(missing_column_message(source_name, name, seen, advice))

    def _required_names(self) -> Iterator[tuple[str, str]]:
        """Each name that a result must have, with the advice to name another."""
        for field_name, name, required in self.fields:
            if required:
                yield name, self.advice.field.format(field=field_name)
        if self.is_id_required:
            yield self.id_columns[0], self.advice.id
        for name in self.passthrough:
            yield name, self.advice.passthrough

    def _select(self, record: ResultRecord) -> _NamedValues:
        values = {name: value for name in self.names if (value := dotted_names.find_value(record, name)) is not MISSING}
        return _NamedValues(record, values)

    def _other_columns(self, record: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(record, _NamedValues)
        return dict(record.record["passthrough"] or {})
