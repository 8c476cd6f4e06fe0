"""A read request says how the rows of a batch are read later, by the process that takes the batch in.

It is stored as JSON with its batch until that was read. The parameters, the deadline and the like are the batch's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.errors import UsageError
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from producer.advice import Door
from producer.readers import DELIMITERS, given_names
from producer.readers.column_mapping import ColumnMapping
from producer.readers.files.source_files import FILE_FORMATS
from producer.readers.mapping_advice import HTTP_ADVICE, PAGE_ADVICE, MappingAdvice
from producer.readers.results.columns import ResultColumns
from producer.readers.results.selection import ResultSelection
from producer.readers.sql import sql_sources
from producer.submission.request import FAIL_ROW, ON_INVALID, REJECT, FailureLimit


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """How to read one source: an uploaded file, a named SQL source, or the results of another batch.

    endpoint: which the lines of an OpenAI file name, such as /v1/embeddings; None = native rows
    completion_window: as an OpenAI client asked for it
    response_options: how the endpoint writes its responses
    file_format: one of FILE_FORMATS
    column_names: of all columns of a CSV or TSV file without a header; empty = it has one
    sql, bind: the name of a query and its parameters, in place of a file
    from_batch, status, labels, min_score: results of a batch, in place of a file
    is_from_page: whether a form of the pages asked for it, so that messages speak of the form
    """

    endpoint: str | None = None
    completion_window: str | None = None
    response_options: Mapping[str, Any] | None = None
    file_format: str = "jsonl"
    column_names: tuple[str, ...] = ()
    sql: str | None = None
    bind: Mapping[str, Any] | None = None
    from_batch: str | None = None
    status: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    min_score: float | None = None
    input_columns: Mapping[str, str] | None = None
    id_column: str | None = None
    use_ids: bool = True
    passthrough: tuple[str, ...] = ()
    on_invalid: str = REJECT
    max_failures: str | None = None
    reuse: bool = False
    is_from_page: bool = False

    @property
    def needs_file(self) -> bool:
        """Whether the rows are those of an uploaded file, which never changes, so that reading can resume anywhere."""
        return self.sql is None and self.from_batch is None

    @property
    def keep_invalid(self) -> bool:
        """Whether a row that can't be a job becomes a failed one."""
        return self.on_invalid == FAIL_ROW

    @property
    def failure_limit(self) -> FailureLimit | None:
        """The number or share of failed jobs that the batch allows."""
        return None if self.max_failures is None else FailureLimit.parse(self.max_failures)

    @property
    def selection(self) -> ResultSelection | None:
        """The results to take; raises UsageError."""
        return ResultSelection.from_options(self.from_batch, self.status, self.labels, self.min_score, self._advice)

    def columns(self, pipeline: Pipeline) -> ColumnMapping:
        """The columns of native rows; raises UsageError."""
        mapping = ColumnMapping if self.from_batch is None else ResultColumns
        return mapping.for_task(
            pipeline.spec,
            self.input_columns,
            self.id_column,
            use_ids=self.use_ids,
            passthrough=self.passthrough,
            advice=self._advice,
        ).with_header(self.column_names or None)

    def check(self, settings: Settings, pipeline: Pipeline, *, has_file: bool) -> None:
        """Raise UsageError for all that is wrong before any row is read."""
        sources = (has_file, self.sql is not None, self.from_batch is not None)
        if sum(sources) != 1:
            raise UsageError("say what to submit: a file, sql or from_batch, and only one of them")
        self._check_format(has_file=has_file)
        if self.bind and self.sql is None:
            raise UsageError("bind sets parameters of a query; name the query as sql", param="bind")
        if self.on_invalid not in ON_INVALID:
            message = f"on_invalid {self.on_invalid[:80]!r} is not known; use {' or '.join(ON_INVALID)}"
            raise UsageError(message, param="on_invalid")
        if self.sql is not None:
            sql_sources.find_sql_source(settings, self.sql).bind(self.bind or {})
        _ = self.failure_limit, self.selection
        if self.endpoint is None:
            self.columns(pipeline)

    def _check_format(self, *, has_file: bool) -> None:
        if self.file_format not in FILE_FORMATS:
            message = f"there is no file_format {self.file_format[:80]!r}; use {', '.join(FILE_FORMATS)}"
            raise UsageError(message, param="file_format")
        if self.column_names and not has_file:
            raise given_names.names_error(given_names.ONLY_FILES)
        if self.column_names and self.file_format not in DELIMITERS:
            raise given_names.wrong_format("the file", self.file_format)

    def as_document(self) -> dict[str, Any]:
        """The JSON document; what has its default is left out."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value != getattr(DEFAULTS, name)
        }

    @property
    def door(self) -> Door:
        """In whose words a message about its rows is stored."""
        return Door.PAGE if self.is_from_page else Door.HTTP

    @property
    def _advice(self) -> MappingAdvice:
        return PAGE_ADVICE if self.is_from_page else HTTP_ADVICE

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read the document; fields of later versions are ignored."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document.items()
            if name in cls.__slots__
        }
        return cls(**values)


DEFAULTS = ReadRequest()
