"""The tree of all errors that Batchmill raises on purpose.

    BatchmillError
    ├── UsageError                  exit 2   the request is wrong; nothing was written
    │   ├── SettingsError                    an environment variable or batchmill.toml
    │   ├── UnknownPipeline                  lists the existing ones
    │   ├── InvalidParameters                lists the allowed ones
    │   ├── InvalidUpload                    the body of a request is no form with one file, or was cut off
    │   ├── UnsupportedEncoding              the body of a request is compressed
    │   ├── UnreadableSource                 the file does not have the claimed format
    │   │   ├── MissingSource                there is no such file, or it can't be opened now
    │   │   └── SourceTooLarge               it has more bytes or rows than the settings allow
    │   ├── InvalidRows                      rows that can't be jobs, by line
    │   ├── NothingToRetry                   no job of the batch can be tried again
    │   └── IdempotencyConflict              an idempotency key that belongs to another request or source
    ├── NotFound                    exit 4   no such batch
    ├── Unauthorized                exit 1   a server wants a key, or does not know this one
    ├── Forbidden                   exit 1   the key lacks a scope
    ├── TooManyRequests             exit 1   a limit that time lifts; says after how many seconds to come again
    │   └── TooManyJobs                      the tenant has as many unanswered jobs as it may have
    ├── Unreachable                 exit 5   the database or Redis does not answer
    │   ├── SchemaMismatch          exit 6   the tables have another version
    │   ├── TransactionConflict     exit 1   others kept changing the same rows at the same time
    │   └── LockTimeout             exit 1   another transaction kept rows locked for too long
    ├── DatabaseRefused             exit 1   the database answers, and would refuse a retry too
    │   └── InsufficientPrivilege            the role lacks a GRANT, which the message contains
    ├── IdempotencyKeyInUse         exit 1   somebody else submits under the same idempotency key now
    ├── SourceNotReady              exit 1   a source that a schedule's run may find later
    ├── FileStoreUnavailable        exit 1   the store of uploaded files is full, broken or out of reach
    ├── WaitTimeout                 exit 124
    ├── ModelError                  exit 1   a model's files can't do what the pipeline asks of them
    │   └── MissingModel                     there are no such files
    ├── LoadFailed                  exit 1   this machine can't load a pipeline now; another one may
    └── JobError                             one job fails; the error becomes its result

A `code` is stable, so programs can compare it. A message is one sentence with advice. `retryable` is True if the same
work may succeed later without any change.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from models import validation


class BatchmillError(Exception):
    """The root of the tree; `exit_code` is the exit status of the command line.

    param: the parameter or field of an HTTP request that is wrong, if one is
    """

    code: str = "internal_error"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    param: str | None = None

    def __init__(self, *args: object, param: str | None = None) -> None:
        super().__init__(*args)
        self.param = param


class UsageError(BatchmillError):
    """The request is wrong, and nothing was written."""

    code = "invalid_request"
    exit_code = 2


class SettingsError(UsageError):
    """A setting has a value that can't be used."""

    code = "invalid_setting"


class UnknownPipeline(UsageError):
    """No pipeline in the catalogue has this name."""

    code = "unknown_pipeline"

    def __init__(self, name: str, names: Sequence[str], aliases: Mapping[str, str] | None = None) -> None:
        suggestion = validation.suggest(name, sorted(names), "this catalogue has", aliases)
        super().__init__(f"there is no pipeline {name[:80]!r}; {suggestion}", param="pipeline")


class InvalidParameters(UsageError):
    """A batch's parameters are not in the task's allowlist, or out of bounds."""

    code = "invalid_parameters"


class InvalidUpload(UsageError):
    """The body of a request is no well-formed upload, or was cut off."""

    code = "invalid_upload"


class UnsupportedEncoding(UsageError):
    """The body of a request is compressed as a whole; a compressed file in it is fine."""

    code = "unsupported_encoding"


class UnreadableSource(UsageError):
    """The source of a batch can't be read in its claimed format."""

    code = "unreadable_source"


class MissingSource(UnreadableSource):
    """The file does not exist or can't be opened now."""

    code = "missing_source"


class SourceTooLarge(UnreadableSource):
    """The source has more bytes or rows than `max_source_bytes` or `max_source_rows` allow."""

    code = "source_too_large"


InvalidRow = tuple[int, str, str, str | None]


class InvalidRows(UsageError):
    """Some rows can't become jobs, so the whole batch is refused and nothing is stored.

    problems: a sentence for each row
    rows: the same as (location, code, message, param)
    """

    code = "invalid_rows"

    def __init__(self, source: str, problems: Sequence[str], rows: Sequence[InvalidRow] = ()) -> None:
        self.problems = tuple(problems)
        self.rows = tuple(rows)
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{source} was refused and nothing was submitted; mend these rows first:{lines}")


class IdempotencyConflict(UsageError):
    """The idempotency key belongs to a batch with another request or another source."""

    code = "idempotency_conflict"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="idempotency-key")


class IdempotencyKeyInUse(BatchmillError):
    """Another process is submitting a batch with this idempotency key."""

    code = "idempotency_key_in_use"
    retryable = True


class SourceNotReady(BatchmillError):
    """A run's source can't be read now, but may be readable later or on another machine."""

    code = "source_not_ready"
    retryable = True


class FileStoreUnavailable(BatchmillError):
    """The store of uploaded files is full, broken or out of reach."""

    code = "file_store_unavailable"
    retryable = True


class NothingToRetry(UsageError):
    """A batch has no job that a retry would run again, so a script need not treat this as a failure."""

    code = "nothing_to_retry"


class NotFound(BatchmillError):
    """The requested object does not exist."""

    code = "not_found"
    exit_code = 4


class Unauthorized(BatchmillError):
    """A server wants an API key, or the key is unknown, expired or revoked."""

    code = "invalid_api_key"


class Forbidden(BatchmillError):
    """The API key lacks the scope that a request needs."""

    code = "insufficient_scope"


class TooManyRequests(BatchmillError):
    """A limit was reached that time lifts.

    retry_after_seconds: when to come again
    """

    code = "rate_limit_exceeded"
    retryable = True

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooManyJobs(TooManyRequests):
    """The tenant has as many unanswered jobs as it may have."""

    code = "too_many_unanswered_jobs"


class Unreachable(BatchmillError):
    """The database or Redis does not answer."""

    code = "unreachable"
    retryable = True
    exit_code = 5


class SchemaMismatch(Unreachable):
    """The database's tables have another version than this code."""

    code = "schema_mismatch"
    retryable = False
    exit_code = 6


class TransactionConflict(Unreachable):
    """The database aborted a transaction because of a deadlock or concurrent changes to its rows."""

    code = "transaction_conflict"
    exit_code = 1


class LockTimeout(Unreachable):
    """Another transaction held a lock for longer than the lock timeout."""

    code = "lock_timeout"
    exit_code = 1


class DatabaseRefused(BatchmillError):
    """The database refused a statement: a right, a table or a setting is missing, or its file is corrupt."""

    code = "database_refused"


class InsufficientPrivilege(DatabaseRefused):
    """The connected role lacks rights; the message names them and the GRANT that adds them."""

    code = "insufficient_privilege"


class WaitTimeout(BatchmillError):
    """The batch had not ended at the end of the wait."""

    code = "wait_timeout"
    retryable = True
    exit_code = 124


class ModelError(BatchmillError):
    """A model's files are unusable for its pipeline; the message gives the reason.

    revision: the revision that was tried, None = unknown
    """

    code = "model_unusable"
    revision: str | None = None


class MissingModel(ModelError):
    """The model's files were found neither on this machine nor on the Hub."""

    code = "model_missing"


class LoadFailed(BatchmillError):
    """A process can't load a pipeline for lack of a device or memory, or a file system error; the model may be fine."""

    code = "load_failed"
    retryable = True


class JobError(BatchmillError):
    """One job fails: its result gets `code` and the message, and other jobs are unaffected."""

    code = "job_failed"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
