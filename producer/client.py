"""The client submits batches from Python, and finds them again."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from models.errors import UsageError
from models.states import BatchStatus
from producer import times
from producer.connection import BatchQuery, Connection
from producer.handle import BatchHandle
from producer.readers import given_names
from producer.readers.frames.frame import Table
from producer.readers.input_source import PythonSource
from producer.readers.mapping_advice import PYTHON_ADVICE
from producer.readers.results.selection import ResultSelection
from producer.remote import address
from producer.submission.options import SubmitOptions

if TYPE_CHECKING:
    from models.db import Database
    from models.pipelines.catalogue import Catalogue
    from models.settings import Settings
    from producer.local.connection import LocalConnection
    from producer.remote.address import ServerAddress
    from producer.remote.connection import RemoteConnection


class Client:
    """Batchmill's Python API, over a database or, given the URL of a server, over HTTP.

    database_url: a database, or a server such as "https://batchmill.example"; None = BATCHMILL_DATABASE_URL,
        batchmill.toml, BATCHMILL_URL, or the database under home, in this order.
    redis_url, home: as the settings of these names; not for a server.
    api_key: the key of a server; None = BATCHMILL_API_KEY.
    insecure: whether the key may go to another machine without TLS.

    No settings are read, and no connection is opened, before the first call.
    """

    def __init__(
        self,
        database_url: str | None = None,
        redis_url: str | None = None,
        home: str | PathLike[str] | None = None,
        *,
        api_key: str | None = None,
        insecure: bool = False,
    ) -> None:
        self._overrides = {"database_url": database_url, "redis_url": redis_url, "home": home}
        self._api_key, self._insecure = api_key, insecure
        address.check_arguments(self._overrides, api_key, insecure=insecure)

    def __repr__(self) -> str:
        return f"<client of {self._server.url if self._server else 'a database'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def settings(self) -> "Settings":
        """The settings in force; raises UsageError over HTTP."""
        return self._local("settings").settings

    @property
    def catalogue(self) -> "Catalogue":
        """The pipelines that can be named; raises UsageError over HTTP."""
        return self._local("catalogue").catalogue

    @property
    def database(self) -> "Database":
        """The database, which is created or upgraded if needed; raises Unreachable, and UsageError over HTTP."""
        return self._local("database").database

    @cached_property
    def _server(self) -> "ServerAddress | None":
        return address.find_server(self._overrides, self._api_key, insecure=self._insecure)

    @cached_property
    def _connection(self) -> "RemoteConnection | LocalConnection":
        # Either side is imported only where it is used: one needs SQLAlchemy, the other an HTTP client.
        if self._server is not None:
            from producer.remote.connection import RemoteConnection

            return RemoteConnection(self._server)
        from producer.local.connection import LocalConnection

        return LocalConnection(self._overrides)

    def submit(
        self,
        pipeline: str,
        inputs: Iterable[str | Mapping[str, Any]] | Table | None = None,
        *,
        files: str | PathLike[str] | Iterable[str | PathLike[str]] | None = None,
        file_format: str | None = None,
        column_names: str | Iterable[str] | None = None,
        sql: str | None = None,
        bind: Mapping[str, Any] | None = None,
        ids: Iterable[str | int | None] | Table | None = None,
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        priority: int = 0,
        on_invalid: str = "reject",
        deadline: str | None = None,
        max_failures: str | int | None = None,
        idempotency_key: str | None = None,
        input_columns: Mapping[str, str] | None = None,
        id_column: str | None = None,
        passthrough: str | Iterable[str] = (),
        reuse: bool = False,
        from_batch: "str | BatchHandle | None" = None,
        status: str | Iterable[str] | None = None,
        labels: str | Iterable[str] | None = None,
        min_score: float | None = None,
        tenant: str | None = None,
        webhook_url: str | None = None,
    ) -> BatchHandle:
        """Submit one batch, and return as soon as it is accepted.

        inputs: texts, or objects with the task's fields; a generator is read in constant memory. Also a table of
            pandas, polars or Arrow, whose columns are the objects' keys, or a column of texts.
        files: in place of inputs: paths, patterns such as "parts/*.parquet", and URLs that the operator allows.
        file_format: one of jsonl, csv, tsv, parquet and text; None = by each file's name.
        column_names: of all columns of CSV or TSV files without a header, such as ["text", "label"]; None = line 1 has
            them.
        sql: in place of inputs: the query [sources.NAME] of batchmill.toml, with its parameters in `bind`.
        ids: the custom_ids, one for each input; None = each object's `custom_id` or `id`, if it has one.
        parameters: the task's parameters; None = the pipeline's.
        on_invalid: "reject", or "fail-row" to store an item that can't be a job as a failed result, and run the others.
        deadline: "6h", the next "06:00" of this machine's clock, or a time; jobs expire then. None = no deadline.
        max_failures: a number such as 20, or a share such as "2.5%"; more failed jobs end the batch. None = no limit.
        idempotency_key: a name for the submission; the same inputs under the same key are one batch. After a crash the
            submission resumes where it stopped. If that batch has failed, expired or was cancelled, a warning is
            logged, which is also the handle's `warning`.
        input_columns: keys of the objects by field, such as {"text": "review_body"}; None = the fields' names. The
            only column of a table needs none.
        id_column: the key of the custom_id, which each object must have; None = see `ids`.
        passthrough: keys of the objects that are kept with each job; "*" = all that are neither a field nor the id.
        reuse: copy the result of an input that an earlier batch has, by the same model and parameters.
        from_batch: in place of inputs: the results of this ended batch. The names in input_columns, id_column and
            passthrough are then dotted, such as {"text": "output.summary_text"}, and the custom_ids stay.
        status, labels, min_score: only such results of that batch; None = succeeded ones, with any label and score.
        tenant: to whom the batch belongs; `reuse` and `from_batch` see only its batches. None = "default",
            or the tenant of the API key.
        webhook_url: called when the batch ends, signed with the setting webhook_secret of the workers. None = nothing.

        Raises InvalidRows naming the items that can't be jobs, and other UsageErrors; then nothing was submitted.
        """
        source_batch_id = from_batch.id if isinstance(from_batch, BatchHandle) else from_batch
        selection = ResultSelection.from_options(source_batch_id, status, labels, min_score, PYTHON_ADVICE, tenant)
        names = None if column_names is None else given_names.parse_names(column_names)
        source = PythonSource(inputs, ids, files, file_format, sql, bind, selection, names)
        if ids is not None and id_column is not None:
            raise UsageError("ids and id_column both name the custom_ids; give one of them")
        options = SubmitOptions(
            parameters,
            name,
            metadata,
            priority,
            on_invalid,
            deadline,
            max_failures,
            idempotency_key,
            input_columns,
            id_column,
            passthrough,
            reuse,
            webhook_url,
            tenant,
        )
        access, warning, already_submitted = self._connection.submit(pipeline, source, options)
        return BatchHandle(access, warning=warning, already_submitted=already_submitted)

    def batch(self, batch_id: str) -> BatchHandle:
        """A batch that was submitted earlier; raises NotFound."""
        return BatchHandle(self._connection.batch(batch_id)).refresh()

    def batches(
        self,
        limit: int | None = 20,
        *,
        after: str | None = None,
        status: str | Iterable[str] | None = None,
        pipeline: str | None = None,
        name: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        tenant: str | None = None,
        search: str | None = None,
    ) -> list[BatchHandle]:
        """Return the newest batches, the newest first.

        limit: maximum number; None = all. The last one's id, given as `after`, continues the list.
        after: the id of a batch; only those after it in this list, which are older. Raises NotFound if it is gone.
        status, pipeline: only batches with this status, or one of several, and of this pipeline.
        name: only batches of this name, in which `*` stands for any text.
        since, until: only batches created then or later, or before; a time without a zone is in this machine's. Also
            text as `batchmill ls` takes it, such as "2026-11-25", or "6h" for six hours ago.
        tenant: only batches of this tenant.
        search: only batches whose name or metadata contains this text, or whose id begins with it.

        Raises UsageError if there is no such status, or no such time.
        """
        statuses = _parse_statuses(status)
        span = _parse_moment("since", since), _parse_moment("until", until, is_end=True)
        query = BatchQuery(statuses, pipeline, name, *span, after, tenant, search)
        connection: Connection = self._connection
        return [BatchHandle(access, view=view) for access, view in connection.list_batches(limit, query)]

    def close(self) -> None:
        """Close all connections; the next call connects again."""
        if "_connection" in self.__dict__:
            self._connection.close()

    def _local(self, what: str) -> "LocalConnection":
        if self._server is not None:
            raise UsageError(f"{self._server.url} is a server, which keeps its {what}; give a database's URL")
        connection: LocalConnection = self._connection  # type: ignore[assignment]
        return connection


def _parse_statuses(status: object) -> tuple[str, ...]:
    if status is None:
        return ()
    statuses = tuple(status) if isinstance(status, Iterable) and not isinstance(status, str) else (status,)
    for item in statuses:
        if item not in list(BatchStatus):
            raise UsageError(f"there is no batch status {str(item)[:80]!r}; use {', '.join(BatchStatus)}")
    return statuses


def _parse_moment(option: str, value: object, *, is_end: bool = False) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise UsageError(f"{option} is not a time; use a datetime, or text such as 2026-11-25 06:00")
    return times.parse_moment(value, is_end=is_end)
