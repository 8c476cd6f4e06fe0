"""Every error that Batchmill raises on purpose.

    BatchmillError
    ├── UsageError                  exit 2   the request is wrong; nothing was written
    │   ├── SettingsError                    an environment variable or batchmill.toml
    │   ├── UnknownPipeline                  lists what exists
    │   ├── InvalidParameters                lists what is allowed
    │   ├── UnreadableSource                 the file is not what it says it is
    │   │   ├── MissingSource                there is no such file, or it can't be opened now
    │   │   └── SourceTooLarge               it has more bytes or rows than the settings allow
    │   ├── InvalidRows                      rows that can't be jobs, by line
    │   └── IdempotencyConflict              an idempotency key that belongs to another request or source
    ├── NotFound                    exit 4   no such batch
    ├── Unreachable                 exit 5   the database or Redis does not answer
    │   ├── SchemaMismatch                   the tables are of another version
    │   ├── TransactionConflict     exit 1   others changed the same rows at the same time, again and again
    │   └── LockTimeout             exit 1   another transaction kept rows locked for longer than is waited
    ├── DatabaseRefused             exit 1   the database answers, and will not do this however often it is asked
    │   └── InsufficientPrivilege            the role lacks a GRANT, which the sentence has
    ├── IdempotencyKeyInUse         exit 1   somebody else submits under the same idempotency key now
    ├── SourceNotReady              exit 1   a source that a schedule's run may find later
    ├── WaitTimeout                 exit 124
    ├── ModelError                  exit 1   a model's files can't do what the pipeline asks of them
    │   └── MissingModel                     there are no such files
    ├── LoadFailed                  exit 1   this machine can't load a pipeline now; another one may
    └── JobError                             one input's failure: becomes its result row

A `code` is stable: programs compare it. A message is one sentence that says what to do. `retryable` says whether the
same work may pass later without anybody changing anything.
"""

from collections.abc import Sequence
from typing import ClassVar


class BatchmillError(Exception):
    """The root; `exit_code` is what the command line ends with."""

    code: str = "internal_error"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class UsageError(BatchmillError):
    """The request itself is wrong."""

    code = "usage"
    exit_code = 2


class SettingsError(UsageError):
    """A setting has a value that can't be used."""

    code = "invalid_setting"


class UnknownPipeline(UsageError):
    """No catalogue entry has this name."""

    code = "unknown_pipeline"

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(f"there is no pipeline {name!r}; this catalogue has: {', '.join(sorted(names))}")


class InvalidParameters(UsageError):
    """A batch's parameters are not in the task's allowlist, or out of bounds."""

    code = "invalid_parameters"


class UnreadableSource(UsageError):
    """The source of a batch can't be read as what it claims to be."""

    code = "unreadable_source"


class MissingSource(UnreadableSource):
    """There is no file of that name, or none that can be opened here and now."""

    code = "missing_source"


class SourceTooLarge(UnreadableSource):
    """The source has more bytes or rows than `max_source_bytes` or `max_source_rows` allow."""

    code = "source_too_large"


class InvalidRows(UsageError):
    """Some rows can't be jobs; the batch is refused whole and nothing of it is kept."""

    code = "invalid_rows"

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{source} was refused and nothing was submitted; mend these rows first:{lines}")


class IdempotencyConflict(UsageError):
    """The idempotency key belongs to a batch of another request, or of another source."""

    code = "idempotency_conflict"


class IdempotencyKeyInUse(BatchmillError):
    """Another process reads the batch of this idempotency key in at this moment."""

    code = "idempotency_busy"
    retryable = True


class SourceNotReady(BatchmillError):
    """A run's source can't be read now, and perhaps can later, or by another machine."""

    code = "source_not_ready"
    retryable = True


class NotFound(BatchmillError):
    """The thing asked for does not exist."""

    code = "not_found"
    exit_code = 4


class Unreachable(BatchmillError):
    """The database or Redis does not answer."""

    code = "unreachable"
    retryable = True
    exit_code = 5


class SchemaMismatch(Unreachable):
    """The database's tables are of another version than this code."""

    code = "schema_mismatch"
    retryable = False


class TransactionConflict(Unreachable):
    """The database broke a transaction off in favour of another: a deadlock, or rows that changed meanwhile."""

    code = "transaction_conflict"
    exit_code = 1


class LockTimeout(Unreachable):
    """Another transaction held a lock for longer than this one waits."""

    code = "lock_timeout"
    exit_code = 1


class DatabaseRefused(BatchmillError):
    """The database refuses a statement: a right, a table or a setting is missing, or its file is broken."""

    code = "database_refused"


class InsufficientPrivilege(DatabaseRefused):
    """The role that we connect as lacks rights; the sentence names them, and the GRANT that gives them."""

    code = "right_missing"


class WaitTimeout(BatchmillError):
    """The batch had not ended when the wait's time was up."""

    code = "wait_ran_out"
    retryable = True
    exit_code = 124


class ModelError(BatchmillError):
    """The content of a model's files is unusable for its pipeline; the sentence says why.

    `revision` is the one that was tried; None where it is not known.
    """

    code = "model_unusable"
    revision: str | None = None


class MissingModel(ModelError):
    """No files of the model were found, here or on the Hub."""

    code = "model_missing"


class LoadFailed(BatchmillError):
    """A process can't load a pipeline now: no device, no memory, a file system error. The model may be sound."""

    code = "load_failed"
    retryable = True


class JobError(BatchmillError):
    """One input can't be answered; its row gets `code` and the sentence, its neighbours nothing of it."""

    code = "job_failed"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def first_line(error: BaseException) -> str:
    """What somebody else's exception says, in one line, to be part of a sentence of ours; it does not end in a colon.

    A line that does so introduces those below it, of which the next one is taken too.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines[0] += f" {lines[1].lstrip('- ')}"
    said = lines[0].rstrip(": ") if lines else ""
    return said or type(error).__name__
