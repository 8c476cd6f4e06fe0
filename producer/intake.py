"""The intake: rows become checked jobs in chunks; the first problems refuse the whole source."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.db import as_json
from models.errors import JobError, RefusedBatch, UnreadableSource
from models.tasks.spec import TaskSpec
from producer.readers.rows import Problem, Row, Source

CHUNK_JOBS = 10_000  # a transaction each: few enough commits, and a short write lock on SQLite
CHUNK_CHARACTERS = 8 * 2**20  # bounds memory where texts are long
MOST_PROBLEMS = 10  # named in a refusal
LOOK_ON_ROWS = 10_000  # read after the first problem, for others to name


@dataclass(slots=True)
class Chunk:
    """Checked jobs at consecutive positions from `first`, and where in the source each of them stood."""

    first: int
    custom_ids: list[str | None] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)  # JSON
    places: list[int] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)  # custom_id: where it stood
    characters: int = 0

    @property
    def end(self) -> int:
        """The position after the last."""
        return self.first + len(self.documents)

    @property
    def is_full(self) -> bool:
        """Whether it is time to insert it."""
        return len(self.documents) >= CHUNK_JOBS or self.characters >= CHUNK_CHARACTERS

    def add(self, row: Row, document: str) -> None:
        """Take a checked row in."""
        self.custom_ids.append(row.custom_id)
        self.documents.append(document)
        self.places.append(row.where)
        self.characters += len(document)


class Intake:
    """What a source has for a task."""

    def __init__(self, spec: TaskSpec, source: Source, parameters: Mapping[str, Any] | None = None) -> None:
        self._spec = spec
        self._parameters = parameters or {}
        self._source = source

    def chunks(self) -> Iterator[Chunk]:
        """The jobs, chunk by chunk; raises RefusedBatch once there was a problem, having looked on a little."""
        chunk = Chunk(first=0)
        for row in self._source.rows:
            checked = self._checked(row, chunk.seen)
            if isinstance(checked, Problem):
                raise self.refusal([checked, *self._look_on(chunk.seen)])
            chunk.add(*checked)
            if chunk.is_full:
                yield chunk
                chunk = Chunk(chunk.end)
        if chunk.end == 0:
            raise UnreadableSource(f"{self._source.name} has no rows, so there is nothing to submit")
        if chunk.documents:
            yield chunk

    def duplicate(self, where: int, custom_id: str, first: int) -> Problem:
        """The problem of a custom_id that the row at `first` has already."""
        return Problem(where, f"has custom_id {custom_id[:80]!r}, which {self._source.unit} {first} has already")

    def refusal(self, problems: list[Problem]) -> RefusedBatch:
        """The error that names these rows."""
        sentences = [f"{self._source.unit} {problem.where}: {problem.sentence}" for problem in problems]
        if len(problems) >= MOST_PROBLEMS:
            sentences[MOST_PROBLEMS:] = ["(and perhaps more)"]
        return RefusedBatch(self._source.name, sentences)

    def _checked(self, row: Row | Problem, seen: dict[str, int]) -> tuple[Row, str] | Problem:
        """The row with its input as it will be stored, or why it can't be a job."""
        if isinstance(row, Problem):
            return row
        try:
            document = as_json(self._spec.normalise(row.raw, self._parameters))
        except JobError as error:
            return Problem(row.where, str(error))
        if row.custom_id is not None:
            first = seen.setdefault(row.custom_id, row.where)
            if first != row.where:
                return self.duplicate(row.where, row.custom_id, first)
        return row, document

    def _look_on(self, seen: dict[str, int]) -> list[Problem]:
        """The next problems after a first one, so that a person can mend several at once; keeps no row."""
        found: list[Problem] = []
        for row, _ in zip(self._source.rows, range(LOOK_ON_ROWS), strict=False):
            checked = self._checked(row, seen)
            if isinstance(checked, Problem):
                found.append(checked)
                if len(found) + 1 == MOST_PROBLEMS:
                    break
        return found
