"""Rows are what a source yields: one of them may be a problem, which says why it can't be a job."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from models.errors import JobError
from producer.readers.limits import DEFAULT_LIMITS, Limits

REQUEST_BODY = "body"  # a row whose whole body is the input of the task
FILE_OFFSET = 10**12  # added to a row's location for each file before its own
NO_HINTS: Mapping[str, str] = {}


class Origin(NamedTuple):
    """The job whose result a row was taken from; it may be deleted meanwhile."""

    batch_id: str
    position: int


class Row(NamedTuple):
    """One row of a source.

    location: the number of the line or item, from 1; of a result its position, from 0.
    raw_input: the input before validation.
    passthrough: the columns that are kept with the job, as JSON values; None = none.
    origin: set if the row is a result of another batch.
    """

    location: int
    custom_id: str | None
    raw_input: object
    passthrough: dict[str, Any] | None = None
    origin: Origin | None = None


class Problem(NamedTuple):
    """The reason why the row at a location can't be a job; the message continues a sentence after "line 3: ".

    raw_input: as much of the input as could be read; None = nothing.
    param: the part of a request that is wrong, such as `body.input`; None = not named.
    """

    location: int
    message: str
    code: str = "invalid_row"
    custom_id: str | None = None
    raw_input: object = None
    passthrough: dict[str, Any] | None = None
    origin: Origin | None = None
    param: str | None = None

    @classmethod
    def from_errors(cls, location: int, errors: Sequence[JobError], hints: Mapping[str, str] = NO_HINTS) -> Self:
        """A problem that names all of a row's errors, under the code of the first.

        hints: advice to append, by code
        """
        first, *others = errors
        message = "; also ".join([str(first), *(f"{error.code}: {error}" for error in others)])
        advice = dict.fromkeys(hints.get(error.code, "") for error in errors)  # each once
        return cls(location, message + "".join(advice), first.code)


def unexpected_problem(location: int, error: Exception, custom_id: str | None = None) -> Problem:
    """The problem of a row that raised an unexpected error, whose message may quote the row and is left out."""
    if isinstance(error, MemoryError):
        raise error  # a problem of the machine, and not of the row
    return Problem(location, f"can't be read ({type(error).__name__})", custom_id=custom_id)


@dataclass(frozen=True, slots=True)
class Source:
    """Rows with a name for messages.

    unit: the unit of locations, such as "line".
    rows: read from the source one by one.
    files: the name and unit of each file; with several, locations count in FILE_OFFSETs too.
    input_param: the part of a request that has the input, such as `body.input`; None = rows are no requests.
    column_names: those that were given to a table without a header.
    doubts: sentences on what the reader had to assume, on the first files alone; complete once all rows were read.
    """

    name: str
    unit: str
    rows: Iterator[Row | Problem]
    files: Sequence[tuple[str, str]] = ()
    limits: Limits = DEFAULT_LIMITS
    input_param: str | None = None
    column_names: Sequence[str] = ()
    doubts: list[str] = field(default_factory=list)

    def describe_location(self, location: int) -> str:
        """A location in words: `line 3`, or `b.jsonl, line 3`."""
        file_index, number = divmod(location, FILE_OFFSET)
        if len(self.files) < 2:
            return f"{self.unit} {number}"
        name, unit = self.files[file_index]
        return f"{name}, {unit} {number}"
