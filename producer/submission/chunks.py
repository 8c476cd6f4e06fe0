"""The intake: rows become checked jobs in chunks; the first problems refuse the whole source."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any

from models.documents import to_json
from models.errors import BatchmillError, InvalidRows, JobError, SourceTooLarge, UnreadableSource
from models.tasks.spec import TaskSpec
from producer.readers.limits import ROW_TOO_LARGE, count_characters
from producer.readers.rows import Problem, Row, Source, unexpected_problem
from producer.readers.storable import UnreadableValue, make_storable

CHUNK_JOBS = 10_000  # a transaction each: few enough commits, and a short write lock on SQLite
CHUNK_BYTES = 4 * 2**20  # bounds memory where texts are long
MAX_PROBLEMS = 10  # named in a refusal
MAX_ROWS_AFTER_PROBLEM = 10_000  # read after the first problem, for others to name
SOURCE_FAILED = "source_broke_off"
PLACEHOLDER_INPUT = "{}"  # stored of a row that can't be a job: what it held may be what no database takes


@dataclass(slots=True)
class Chunk:
    """Checked jobs at consecutive positions from `first`, and where in the source each of them stood."""

    start_position: int
    custom_ids: list[str | None] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)  # JSON
    passthroughs: list[str | None] = field(default_factory=list)  # JSON
    locations: list[int] = field(default_factory=list)
    location_by_id: dict[str, int] = field(default_factory=dict)  # custom_id: where it stood
    failures: dict[int, Problem] = field(default_factory=dict)  # by position: jobs that have failed already
    memory_bytes: int = 0  # of its texts: a character takes one to four
    is_cut: bool = False  # since its source is slow

    @property
    def end_position(self) -> int:
        """The position after the last."""
        return self.start_position + len(self.documents)

    @property
    def is_full(self) -> bool:
        """Whether it is time to insert it."""
        return len(self.documents) >= CHUNK_JOBS or self.memory_bytes >= CHUNK_BYTES

    def add(self, row: Row, document: str) -> None:
        """Take a checked row in."""
        self.custom_ids.append(row.custom_id)
        self.documents.append(document)
        self.locations.append(row.location)
        self.passthroughs.append(None if row.passthrough is None else to_json(row.passthrough))
        self.memory_bytes += (
            _memory_bytes(document) + _memory_bytes(self.passthroughs[-1]) + _memory_bytes(row.custom_id)
        )

    def add_failed(self, problem: Problem) -> None:
        """Take a row in that can't be a job: nobody will run it, and its result says why."""
        self.failures[self.end_position] = problem
        self.add(Row(problem.location, problem.custom_id, None), PLACEHOLDER_INPUT)

    def mark_failed(self, problem: Problem) -> None:
        """Let a row that was taken in as a job fail after all, without its custom_id."""
        index = self.locations.index(problem.location)
        self.custom_ids[index], self.documents[index] = None, PLACEHOLDER_INPUT
        self.failures[self.start_position + index] = problem

    def canonical_bytes(self) -> Iterator[bytes]:
        """The chunk's rows as bytes, equal for equal rows only."""
        for columns in zip(self.custom_ids, self.documents, self.passthroughs, strict=True):
            # JSON has no control characters, and an id has no NUL.
            yield "\0".join("\0" if column is None else column for column in columns).encode() + b"\n"
        for position, problem in sorted(self.failures.items()):
            yield f"{position}\0{problem.code}\n".encode()


class JobChunker:
    """What a source has for a task. With `keeps_invalid` a row that can't be a job becomes one that has failed."""

    def __init__(
        self,
        spec: TaskSpec,
        source: Source,
        parameters: Mapping[str, Any] | None = None,
        *,
        keep_invalid: bool = False,
        boundary_position: int | None = None,
        max_chunk_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        allow_empty: bool = False,
        tolerated_errors: tuple[type[BatchmillError], ...] = (),
    ) -> None:
        self.keep_invalid = keep_invalid
        self._allow_empty = allow_empty
        self._boundary_position = boundary_position  # a position at which a chunk ends, whatever its size
        self._spec = spec
        self._parameters = parameters or {}
        self._source = source
        self._max_chunk_seconds = max_chunk_seconds  # a chunk of a slow source is cut after so long
        self._clock = clock
        self._tolerated_errors = tolerated_errors  # errors of the source after which what was read is kept
        self.source_failure: str | None = None  # why the source ended before its end

    def chunks(self) -> Iterator[Chunk]:
        """The jobs, chunk by chunk; raises RefusedBatch once there was a problem, having looked on a little."""
        chunk, due = Chunk(start_position=0), self._clock() + self._max_chunk_seconds
        for row in self._rows():
            checked = self._validate(row, chunk.location_by_id)
            if not isinstance(checked, Problem):
                chunk.add(*checked)
            elif self.keep_invalid:
                chunk.add_failed(checked)
            else:
                # What follows a row without end may be as large: nobody waits for that to be named.
                others = [] if checked.code == ROW_TOO_LARGE else self._more_problems(chunk.location_by_id)
                raise self.rejection_error([checked, *others])
            chunk.is_cut = self._clock() >= due
            if chunk.is_full or chunk.is_cut or chunk.end_position == self._boundary_position:
                yield chunk
                chunk = Chunk(chunk.end_position)
                due = self._clock() + self._max_chunk_seconds
        if chunk.end_position == 0 and not self._allow_empty:
            raise UnreadableSource(f"{self._source.name} has no rows, so there is nothing to submit")
        if chunk.documents:
            yield chunk

    def duplicate_problem(self, location: int, custom_id: str, first_location: int) -> Problem:
        """The problem of a custom_id that the row at `first` has already."""
        sentence = (
            f"has custom_id {custom_id[:80]!r}, which {self._source.describe_location(first_location)} has already"
        )
        return Problem(location, sentence, "duplicate_id")

    def describe_problem(self, problem: Problem) -> str:
        """The problem as a sentence that names its row, and that every database takes."""
        return make_storable(f"{self._source.describe_location(problem.location)}: {problem.message}")

    def rejection_error(self, problems: list[Problem]) -> InvalidRows:
        """The error that names these rows."""
        sentences = [self.describe_problem(problem) for problem in problems]
        if len(problems) >= MAX_PROBLEMS:
            sentences[MAX_PROBLEMS:] = ["(and perhaps more)"]
        return InvalidRows(self._source.name, sentences)

    def _rows(self) -> Iterator[Row | Problem]:
        return self._rows_until_failure() if self._tolerated_errors else self._limited_rows()

    def _limited_rows(self) -> Iterator[Row | Problem]:
        most = self._source.limits.max_source_rows
        for count, row in enumerate(self._source.rows, start=1):
            if count > most:
                where = f"{self._source.name}, {self._source.describe_location(row.location)}"
                raise SourceTooLarge(
                    f"{where}: the source has more than {most:,} rows; split it, or raise max_source_rows"
                )
            yield row

    def _rows_until_failure(self) -> Iterator[Row | Problem]:
        """The source's rows; where it breaks off behind some, a problem stands in the place of all that follows."""
        row = None
        try:
            for row in self._limited_rows():
                yield row
        except self._tolerated_errors as error:
            if row is None:
                raise
            self.source_failure = str(error)
            yield Problem(row.location + 1, f"the source broke off: {error}", SOURCE_FAILED)

    def _validate(self, row: Row | Problem, location_by_id: dict[str, int]) -> tuple[Row, str] | Problem:
        """The row with its input as it will be stored, or why it can't be a job."""
        if isinstance(row, Problem):
            return row
        if row.custom_id is not None:
            first = location_by_id.setdefault(row.custom_id, row.location)
            if first != row.location:
                return self.duplicate_problem(row.location, row.custom_id, first)
        try:
            self._check_size(row.raw_input)
            return row, to_json(self._spec.normalise(row.raw_input, self._parameters))
        except JobError as error:
            return Problem(row.location, _unreadable_reason(row.raw_input) or str(error), error.code, row.custom_id)
        except Exception as error:
            return unexpected_problem(row.location, error, row.custom_id)

    def _check_size(self, raw_input: object) -> None:
        most = self._source.limits.max_input_characters
        found = count_characters(raw_input)
        if found > most:
            sentence = f"the input has {found:,} characters in all; at most {most:,} are taken (max_input_characters)"
            raise JobError("text_too_long", sentence)

    def _more_problems(self, location_by_id: dict[str, int]) -> list[Problem]:
        """The next problems after a first one, so that a person can mend several at once; keeps no row."""
        found: list[Problem] = []
        for row, _ in zip(self._rows(), range(MAX_ROWS_AFTER_PROBLEM), strict=False):
            checked = self._validate(row, location_by_id)
            if isinstance(checked, Problem):
                found.append(checked)
                if len(found) + 1 == MAX_PROBLEMS:
                    break
        return found


def _memory_bytes(text: str | None) -> int:
    """What a text takes in memory, until it is in the database: one that is not ASCII is kept in UTF-8 as well."""
    return 0 if text is None else getsizeof(text) if text.isascii() else 2 * getsizeof(text)


def _unreadable_reason(raw_input: object) -> str | None:
    """What is wrong with a row of which a value could not be read."""
    if not isinstance(raw_input, Mapping):
        return None
    return next(
        (f"{name} {value.reason}" for name, value in raw_input.items() if isinstance(value, UnreadableValue)), None
    )
