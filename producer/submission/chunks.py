"""The intake: rows become checked jobs in chunks; the first problems refuse the whole source."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any

from models.documents import as_json
from models.errors import BatchmillError, JobError, RefusedBatch, SourceTooLarge, UnreadableSource
from models.tasks.spec import TaskSpec
from producer.readers.limits import TOO_LARGE, characters
from producer.readers.rows import Problem, Row, Source, unexpected
from producer.readers.storable import Unreadable, storable

CHUNK_JOBS = 10_000  # a transaction each: few enough commits, and a short write lock on SQLite
CHUNK_BYTES = 4 * 2**20  # bounds memory where texts are long
MOST_PROBLEMS = 10  # named in a refusal
LOOK_ON_ROWS = 10_000  # read after the first problem, for others to name
BROKE_OFF = "source_broke_off"
NO_INPUT = "{}"  # stored of a row that can't be a job: what it held may be what no database takes


@dataclass(slots=True)
class Chunk:
    """Checked jobs at consecutive positions from `first`, and where in the source each of them stood."""

    first: int
    custom_ids: list[str | None] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)  # JSON
    metas: list[str | None] = field(default_factory=list)  # JSON
    places: list[int] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)  # custom_id: where it stood
    failures: dict[int, Problem] = field(default_factory=dict)  # by position: jobs that have failed already
    memory_bytes: int = 0  # of its texts: a character takes one to four
    is_cut: bool = False  # since its source is slow

    @property
    def end(self) -> int:
        """The position after the last."""
        return self.first + len(self.documents)

    @property
    def is_full(self) -> bool:
        """Whether it is time to insert it."""
        return len(self.documents) >= CHUNK_JOBS or self.memory_bytes >= CHUNK_BYTES

    def add(self, row: Row, document: str) -> None:
        """Take a checked row in."""
        self.custom_ids.append(row.custom_id)
        self.documents.append(document)
        self.places.append(row.where)
        self.metas.append(None if row.meta is None else as_json(row.meta))
        self.memory_bytes += _bytes(document) + _bytes(self.metas[-1]) + _bytes(row.custom_id)

    def add_failed(self, problem: Problem) -> None:
        """Take a row in that can't be a job: nobody will run it, and its result says why."""
        self.failures[self.end] = problem
        self.add(Row(problem.where, problem.custom_id, None), NO_INPUT)

    def fail(self, problem: Problem) -> None:
        """Let a row that was taken in as a job fail after all, without its custom_id."""
        index = self.places.index(problem.where)
        self.custom_ids[index], self.documents[index] = None, NO_INPUT
        self.failures[self.first + index] = problem

    def spelled(self) -> Iterator[bytes]:
        """The chunk's rows as bytes, equal for equal rows only."""
        for columns in zip(self.custom_ids, self.documents, self.metas, strict=True):
            # JSON has no control characters, and an id has no NUL.
            yield "\0".join("\0" if column is None else column for column in columns).encode() + b"\n"
        for position, problem in sorted(self.failures.items()):
            yield f"{position}\0{problem.code}\n".encode()


class Intake:
    """What a source has for a task. With `keeps_invalid` a row that can't be a job becomes one that has failed."""

    def __init__(
        self,
        spec: TaskSpec,
        source: Source,
        parameters: Mapping[str, Any] | None = None,
        *,
        keeps_invalid: bool = False,
        cut_at: int | None = None,
        at_most_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        allows_empty: bool = False,
        keeps_broken: tuple[type[BatchmillError], ...] = (),
    ) -> None:
        self.keeps_invalid = keeps_invalid
        self._allows_empty = allows_empty
        self._cut_at = cut_at  # a position at which a chunk ends, whatever its size
        self._spec = spec
        self._parameters = parameters or {}
        self._source = source
        self._at_most_seconds = at_most_seconds  # a chunk of a slow source is cut after so long
        self._clock = clock
        self._keeps_broken = keeps_broken  # errors of the source after which what was read is kept
        self.broke_off: str | None = None  # why the source ended before its end

    def chunks(self) -> Iterator[Chunk]:
        """The jobs, chunk by chunk; raises RefusedBatch once there was a problem, having looked on a little."""
        chunk, due = Chunk(first=0), self._clock() + self._at_most_seconds
        for row in self._rows():
            checked = self._checked(row, chunk.seen)
            if not isinstance(checked, Problem):
                chunk.add(*checked)
            elif self.keeps_invalid:
                chunk.add_failed(checked)
            else:
                # What follows a row without end may be as large: nobody waits for that to be named.
                others = [] if checked.code == TOO_LARGE else self._look_on(chunk.seen)
                raise self.refusal([checked, *others])
            chunk.is_cut = self._clock() >= due
            if chunk.is_full or chunk.is_cut or chunk.end == self._cut_at:
                yield chunk
                chunk = Chunk(chunk.end)
                due = self._clock() + self._at_most_seconds
        if chunk.end == 0 and not self._allows_empty:
            raise UnreadableSource(f"{self._source.name} has no rows, so there is nothing to submit")
        if chunk.documents:
            yield chunk

    def duplicate(self, where: int, custom_id: str, first: int) -> Problem:
        """The problem of a custom_id that the row at `first` has already."""
        sentence = f"has custom_id {custom_id[:80]!r}, which {self._source.at(first)} has already"
        return Problem(where, sentence, "duplicate_id")

    def located(self, problem: Problem) -> str:
        """The problem as a sentence that names its row, and that every database takes."""
        return storable(f"{self._source.at(problem.where)}: {problem.sentence}")

    def refusal(self, problems: list[Problem]) -> RefusedBatch:
        """The error that names these rows."""
        sentences = [self.located(problem) for problem in problems]
        if len(problems) >= MOST_PROBLEMS:
            sentences[MOST_PROBLEMS:] = ["(and perhaps more)"]
        return RefusedBatch(self._source.name, sentences)

    def _rows(self) -> Iterator[Row | Problem]:
        return self._kept_rows() if self._keeps_broken else self._allowed_rows()

    def _allowed_rows(self) -> Iterator[Row | Problem]:
        most = self._source.limits.source_rows
        for count, row in enumerate(self._source.rows, start=1):
            if count > most:
                where = f"{self._source.name}, {self._source.at(row.where)}"
                raise SourceTooLarge(
                    f"{where}: the source has more than {most:,} rows; split it, or raise max_source_rows"
                )
            yield row

    def _kept_rows(self) -> Iterator[Row | Problem]:
        """The source's rows; where it breaks off behind some, a problem stands in the place of all that follows."""
        row = None
        try:
            for row in self._allowed_rows():
                yield row
        except self._keeps_broken as error:
            if row is None:
                raise
            self.broke_off = str(error)
            yield Problem(row.where + 1, f"the source broke off: {error}", BROKE_OFF)

    def _checked(self, row: Row | Problem, seen: dict[str, int]) -> tuple[Row, str] | Problem:
        """The row with its input as it will be stored, or why it can't be a job."""
        if isinstance(row, Problem):
            return row
        if row.custom_id is not None:
            first = seen.setdefault(row.custom_id, row.where)
            if first != row.where:
                return self.duplicate(row.where, row.custom_id, first)
        try:
            self._check_size(row.raw)
            return row, as_json(self._spec.normalise(row.raw, self._parameters))
        except JobError as error:
            return Problem(row.where, _unread(row.raw) or str(error), error.code, row.custom_id)
        except Exception as error:
            return unexpected(row.where, error, row.custom_id)

    def _check_size(self, raw: object) -> None:
        most = self._source.limits.input_characters
        found = characters(raw)
        if found > most:
            sentence = f"the input has {found:,} characters in all; at most {most:,} are taken (max_input_characters)"
            raise JobError("text_too_long", sentence)

    def _look_on(self, seen: dict[str, int]) -> list[Problem]:
        """The next problems after a first one, so that a person can mend several at once; keeps no row."""
        found: list[Problem] = []
        for row, _ in zip(self._rows(), range(LOOK_ON_ROWS), strict=False):
            checked = self._checked(row, seen)
            if isinstance(checked, Problem):
                found.append(checked)
                if len(found) + 1 == MOST_PROBLEMS:
                    break
        return found


def _bytes(text: str | None) -> int:
    """What a text takes in memory, until it is in the database: one that is not ASCII is kept in UTF-8 as well."""
    return 0 if text is None else getsizeof(text) if text.isascii() else 2 * getsizeof(text)


def _unread(raw: object) -> str | None:
    """What is wrong with a row of which a value could not be read."""
    if not isinstance(raw, Mapping):
        return None
    return next((f"{name} {value.reason}" for name, value in raw.items() if isinstance(value, Unreadable)), None)
