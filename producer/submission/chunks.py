"""Chunks hold the validated jobs of a source; `JobChunker` makes them, and rejects a source by its first problems."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any, NamedTuple

from models.documents import to_json
from models.errors import BatchmillError, InvalidRows, JobError, SourceTooLarge, UnreadableSource
from models.tasks.spec import TaskSpec
from producer.readers.kept_input import CUT_MARK, keep_input
from producer.readers.limits import ROW_TOO_LARGE, count_characters
from producer.readers.rows import REQUEST_BODY, Origin, Problem, Row, Source, unexpected_problem
from producer.readers.storable import UnreadableValue, make_storable

CHUNK_JOBS = 10_000  # a transaction each: few enough commits, and a short write lock on SQLite
CHUNK_BYTES = 4 * 2**20  # bounds memory where texts are long
MAX_PROBLEMS = 10  # named in a rejection
MAX_ROWS_AFTER_PROBLEM = 10_000  # read after the first problem to name others
SOURCE_FAILED, MISSING_FIELD, DUPLICATE_ID = "source_failed", "missing_field", "duplicate_id"


@dataclass(slots=True)
class Chunk:
    """Validated jobs at consecutive positions, each with its location in the source."""

    start_position: int
    custom_ids: list[str | None] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)  # JSON
    passthroughs: list[str | None] = field(default_factory=list)  # JSON
    origins: list[Origin | None] = field(default_factory=list)
    locations: list[int] = field(default_factory=list)
    location_by_id: dict[str, int] = field(default_factory=dict)  # by custom_id
    failures: dict[int, Problem] = field(default_factory=dict)  # by position: jobs that are stored as failed
    memory_bytes: int = 0  # the size of its texts, with one to four bytes a character
    is_cut: bool = False  # because its source is slow

    @property
    def end_position(self) -> int:
        """The position after the last job."""
        return self.start_position + len(self.documents)

    @property
    def is_full(self) -> bool:
        """Whether it is time to insert the chunk."""
        return len(self.documents) >= CHUNK_JOBS or self.memory_bytes >= CHUNK_BYTES

    @property
    def has_origins(self) -> bool:
        """Whether rows of it are results of another batch."""
        return any(self.origins)

    def add(self, row: Row, document: str) -> None:
        """Append a validated row."""
        passthrough = None if row.passthrough is None else to_json(row.passthrough)
        self.custom_ids.append(row.custom_id)
        self.documents.append(document)
        self.locations.append(row.location)
        self.passthroughs.append(passthrough)
        self.origins.append(row.origin)
        self.memory_bytes += sum(map(_memory_bytes, (document, passthrough, row.custom_id)))

    def add_failed(self, problem: Problem, text_field: str) -> None:
        """Append a row that can't be a job: it is never run, and its result says why.

        text_field: the field that a bare text stands for
        """
        kept_input, is_cut = keep_input(problem.raw_input, text_field)
        message = problem.message + CUT_MARK if is_cut else problem.message
        self.failures[self.end_position] = Problem(problem.location, message, problem.code)
        row = Row(problem.location, problem.custom_id, None, problem.passthrough, problem.origin)
        self.add(row, to_json(kept_input))

    def mark_failed(self, problem: Problem) -> None:
        """Turn a row that was appended as a job into a failed one."""
        self.failures[self.start_position + self.locations.index(problem.location)] = problem

    def canonical_bytes(self) -> Iterator[bytes]:
        """The chunk's rows as bytes, equal for equal rows only, wherever chunks end."""
        rows = zip(self.custom_ids, self.documents, self.passthroughs, strict=True)
        for position, columns in enumerate(rows, start=self.start_position):
            # JSON has no control characters, and an id has no NUL.
            yield "\0".join("\0" if column is None else column for column in columns).encode() + b"\n"
            origin = self.origins[position - self.start_position]
            if origin is not None:
                yield f"{origin.batch_id}\0{origin.position}\n".encode()
            problem = self.failures.get(position)
            if problem is not None and problem.code != DUPLICATE_ID:  # the earlier row may be in another chunk
                yield f"{position}\0{problem.code}\n".encode()


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How a source is cut into chunks, and what becomes of invalid rows.

    keep_invalid: store a row that can't be a job as a failed one, instead of rejecting the source.
    allow_empty: accept a source without rows.
    boundary_position: a position at which a chunk ends, whatever its size; None = no such position.
    max_chunk_seconds: cut the chunk of a slow source after this time.
    tolerated_errors: errors of the source after which the rows before them are kept.
    max_problems: named in a rejection.
    """

    keep_invalid: bool = False
    allow_empty: bool = False
    boundary_position: int | None = None
    max_chunk_seconds: float = math.inf
    tolerated_errors: tuple[type[BatchmillError], ...] = ()
    max_problems: int = MAX_PROBLEMS


class _ValidRow(NamedTuple):
    """A valid row with the JSON to store for it; its custom_id may be that of an earlier row."""

    row: Row
    document: str
    duplicate: Problem | None = None


class JobChunker:
    """Validates the rows of a source for a task, and yields them in chunks."""

    def __init__(
        self,
        spec: TaskSpec,
        source: Source,
        parameters: Mapping[str, Any] | None = None,
        options: ChunkOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._source = source
        self._parameters = parameters or {}
        self._options = options or ChunkOptions()
        self._clock = clock
        self.source_failure: str | None = None  # why the source ended early

    @property
    def keep_invalid(self) -> bool:
        """Whether a row that can't be a job becomes a failed one."""
        return self._options.keep_invalid

    @property
    def max_problems(self) -> int:
        """How many rows a rejection names."""
        return self._options.max_problems

    def chunks(self) -> Iterator[Chunk]:
        """The jobs, chunk by chunk; raises InvalidRows after a problem, naming those of the next rows too."""
        chunk, cut_at = Chunk(start_position=0), self._clock() + self._options.max_chunk_seconds
        for row in self._rows():
            self._add_row(chunk, row)
            chunk.is_cut = self._clock() >= cut_at
            if chunk.is_full or chunk.is_cut or chunk.end_position == self._options.boundary_position:
                yield chunk
                chunk = Chunk(chunk.end_position)
                cut_at = self._clock() + self._options.max_chunk_seconds
        if chunk.end_position == 0 and not self._options.allow_empty:
            raise UnreadableSource(f"{self._source.name} has no rows, so there is nothing to submit")
        if chunk.documents:
            yield chunk

    def duplicate_problem(self, location: int, custom_id: str, first_location: int) -> Problem:
        """The problem of a custom_id that the row at `first_location` has already."""
        first = self._source.describe_location(first_location)
        return Problem(location, f"has custom_id {custom_id[:80]!r}, which {first} has already", DUPLICATE_ID)

    def describe_problem(self, problem: Problem) -> str:
        """A sentence that names the row and its problem, and that every database can store."""
        return make_storable(f"{self._source.describe_location(problem.location)}: {problem.message}")

    def rejection_error(self, problems: list[Problem]) -> InvalidRows:
        """The error that names these rows."""
        shown = problems[: self.max_problems]
        sentences = [self.describe_problem(problem) for problem in shown]
        if len(problems) >= self.max_problems:
            sentences.append("(and perhaps more)")
        rows = [(problem.location, problem.code, make_storable(problem.message), problem.param) for problem in shown]
        return InvalidRows(self._source.name, sentences, rows)

    def _add_row(self, chunk: Chunk, row: Row | Problem) -> None:
        job = self._validate(row, chunk.location_by_id)
        problem = job if isinstance(job, Problem) else job.duplicate
        if problem is not None and not self.keep_invalid:
            # The rest of an endless row may be as large, so no other problems are looked for behind one.
            others = [] if problem.code == ROW_TOO_LARGE else self._more_problems(chunk.location_by_id)
            raise self.rejection_error([problem._replace(raw_input=None), *others])
        if isinstance(job, Problem):
            chunk.add_failed(job, self._spec.fields[0].name)
            return
        if job.duplicate is not None:
            chunk.failures[chunk.end_position] = job.duplicate
        chunk.add(job.row, job.document)

    def _rows(self) -> Iterator[Row | Problem]:
        """The source's rows; after a tolerated error, one problem stands for all rows that were not read."""
        row = None
        try:
            for row in limit_rows(self._source):
                yield row
        except self._options.tolerated_errors as error:
            if row is None:
                raise
            self.source_failure = str(error)
            yield Problem(row.location + 1, f"the source broke off: {error}", SOURCE_FAILED)

    def _validate(self, row: Row | Problem, location_by_id: dict[str, int]) -> _ValidRow | Problem:
        """The row with the JSON to store for it, or the reason why it can't be a job."""
        if isinstance(row, Problem):
            return self._add_input_errors(row, location_by_id)
        first_location = location_by_id.get(row.custom_id) if row.custom_id is not None else None
        try:
            self._check_size(row.raw_input)
            document = to_json(self._spec.normalise(row.raw_input, self._parameters))
        except JobError as error:
            message = _unreadable_reason(row.raw_input) or str(error)
            named = (row.custom_id, row.raw_input, row.passthrough, row.origin, self._source.input_param)
            return self._add_input_errors(Problem(row.location, message, error.code, *named), location_by_id)
        except Exception as error:
            unexpected = unexpected_problem(row.location, error, row.custom_id)
            return unexpected._replace(raw_input=row.raw_input, passthrough=row.passthrough, origin=row.origin)
        if first_location is not None:
            return _ValidRow(row, document, self.duplicate_problem(row.location, str(row.custom_id), first_location))
        if row.custom_id is not None:
            location_by_id[row.custom_id] = row.location
        return _ValidRow(row, document)

    def _add_input_errors(self, problem: Problem, location_by_id: Mapping[str, int]) -> Problem:
        """The problem with those of its input and of its custom_id, so that all can be repaired at once."""
        message = problem.message
        for error in self._input_errors(problem.raw_input):
            if str(error) != problem.message and not error.code == problem.code == MISSING_FIELD:
                message += f"; also {error.code}: {error}"
        if problem.custom_id is not None and problem.custom_id in location_by_id:
            first_location = location_by_id[problem.custom_id]
            duplicate = self.duplicate_problem(problem.location, problem.custom_id, first_location)
            message += f"; also {duplicate.code}: {duplicate.message}"
        return problem._replace(message=message)

    def _input_errors(self, raw_input: object) -> list[JobError]:
        if not isinstance(raw_input, Mapping) or not any(field.name in raw_input for field in self._spec.fields):
            return []  # the row could not be read, or has no field of the task
        if self._source.input_param not in (None, REQUEST_BODY):
            return []  # the row is a request, whose keys may be called as the fields are
        if _unreadable_reason(raw_input) or count_characters(raw_input) > self._source.limits.max_input_characters:
            return []
        try:
            return self._spec.find_errors(raw_input, self._parameters)
        except Exception:  # one problem is known already, and further ones are only looked for
            return []

    def _check_size(self, raw_input: object) -> None:
        limit = self._source.limits.max_input_characters
        characters = count_characters(raw_input)
        if characters > limit:
            raise JobError(
                "text_too_long",
                f"the input has {characters:,} characters in all; at most {limit:,} are taken (max_input_characters)",
            )

    def _more_problems(self, location_by_id: dict[str, int]) -> list[Problem]:
        """The next problems, so that a person can fix several at once; no row is kept."""
        problems: list[Problem] = []
        for row, _ in zip(self._rows(), range(MAX_ROWS_AFTER_PROBLEM), strict=False):
            job = self._validate(row, location_by_id)
            problem = job if isinstance(job, Problem) else job.duplicate
            if problem is not None:
                problems.append(problem._replace(raw_input=None))
                if len(problems) + 1 == self.max_problems:
                    break
        return problems


def _memory_bytes(text: str | None) -> int:
    """The memory that a text takes until it is inserted: one that is not ASCII is held in UTF-8 as well."""
    return 0 if text is None else getsizeof(text) if text.isascii() else 2 * getsizeof(text)


def _unreadable_reason(raw_input: object) -> str | None:
    """Why a value of the row could not be read; None if all could."""
    fields = raw_input.items() if isinstance(raw_input, Mapping) else ()
    return next((f"{name} {value.reason}" for name, value in fields if isinstance(value, UnreadableValue)), None)


def limit_rows(source: Source) -> Iterator[Row | Problem]:
    """Yield a source's rows; raises SourceTooLarge if there are more than its limits allow."""
    max_rows = source.limits.max_source_rows
    for count, row in enumerate(source.rows, start=1):
        if count > max_rows:
            where = f"{source.name}, {source.describe_location(row.location)}"
            raise SourceTooLarge(
                f"{where}: the source has more than {max_rows:,} rows; split it, or raise max_source_rows"
            )
        yield row
