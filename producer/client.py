"""The client submits batches from Python, and finds them again."""

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from os import PathLike
from typing import Any, Self

from models import schema
from models.db import Database
from models.errors import BatchmillError, UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings, unknown_variables
from models.states import BatchStatus
from producer import times
from producer.batches import model_checks, views, workers
from producer.batches.listing import BatchFilter
from producer.handle import BatchHandle
from producer.readers.frames.frame import Table
from producer.readers.input_source import PythonSource
from producer.readers.mapping_advice import PYTHON_ADVICE
from producer.readers.results.columns import ResultColumns
from producer.readers.results.selection import ResultSelection
from producer.readers.rows import ColumnMapping
from producer.submission import submit
from producer.submission.request import REJECT, SubmitRequest
from producer.submission.submit import SubmitResult
from producer.tenants.principal import DEFAULT_TENANT

log = logging.getLogger(__name__)

PAGE_BATCHES = 1_000  # read at once


class Client:
    """Batchmill's Python API; settings not given here come from the environment and batchmill.toml.

    No settings are read, and no connection is opened, before the first call.
    """

    def __init__(
        self, database_url: str | None = None, redis_url: str | None = None, home: str | PathLike[str] | None = None
    ) -> None:
        self._overrides = {"database_url": database_url, "redis_url": redis_url, "home": home}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def settings(self) -> Settings:
        """The settings in force."""
        for problem in unknown_variables(os.environ):
            log.warning('settings.unknown_variable reason="%s"', problem)
        return Settings.load(**self._overrides)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The pipelines that can be named."""
        return Catalogue.load(self.settings)

    @cached_property
    def database(self) -> Database:
        """The database; the embedded one is created or upgraded if needed. Raises Unreachable."""
        return schema.open_database(self.settings)

    def submit(
        self,
        pipeline: str,
        inputs: Iterable[str | Mapping[str, Any]] | Table | None = None,
        *,
        files: str | PathLike[str] | Iterable[str | PathLike[str]] | None = None,
        file_format: str | None = None,
        sql: str | None = None,
        bind: Mapping[str, Any] | None = None,
        ids: Iterable[str | int | None] | Table | None = None,
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        priority: int = 0,
        on_invalid: str = REJECT,
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
        tenant: str = DEFAULT_TENANT,
        webhook_url: str | None = None,
    ) -> BatchHandle:
        """Submit one batch, and return as soon as it is accepted.

        inputs: texts, or objects with the task's fields; a generator is read in constant memory. Also a table of
            pandas, polars or Arrow, whose columns are the objects' keys, or a column of texts.
        files: in place of inputs: paths, patterns such as "parts/*.parquet", and URLs that the operator allows.
        file_format: one of jsonl, csv, tsv and parquet; None = by each file's name.
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
        tenant: to whom the batch belongs; `reuse` and `from_batch` see only batches of the same tenant.
        webhook_url: called when the batch ends, signed with the setting webhook_secret of the workers. None = nothing.

        Raises InvalidRows naming the items that can't be jobs, and other UsageErrors; then nothing was submitted.
        """
        source_batch_id = from_batch.id if isinstance(from_batch, BatchHandle) else from_batch
        selection = ResultSelection.from_options(source_batch_id, status, labels, min_score, PYTHON_ADVICE, tenant)
        python_source = PythonSource(inputs, ids, files, file_format, sql, bind, selection)
        request = SubmitRequest.create(
            self.catalogue[pipeline],
            parameters=parameters,
            name=name,
            metadata=metadata,
            priority=priority,
            on_invalid=on_invalid,
            deadline=deadline,
            max_failures=max_failures,
            idempotency_key=idempotency_key,
            reuse=reuse,
            source_batch_id=source_batch_id,
            tenant=tenant,
            webhook_url=webhook_url,
        )
        is_single = isinstance(passthrough, str) or not isinstance(passthrough, Iterable)
        passthrough_columns = (str(passthrough),) if is_single else passthrough
        if ids is not None and id_column is not None:
            raise UsageError("ids and id_column both name the custom_ids; give one of them")
        mapping = ColumnMapping if selection is None else ResultColumns
        columns = mapping.for_task(
            request.pipeline.spec,
            input_columns,
            id_column,
            use_ids=ids is None,
            passthrough=passthrough_columns,
            advice=PYTHON_ADVICE,
        )
        with python_source.open(self.settings, columns, keep_invalid=request.keep_invalid) as source:
            result = submit.submit(
                self.database,
                self.settings.slice_size,
                request,
                source,
                on_slices_queued=submit.WakeupSender(self.settings),
            )
        return self._handle_for(result)

    def batch(self, batch_id: str) -> BatchHandle:
        """A batch that was submitted earlier; raises NotFound."""
        return BatchHandle(self.database, self.settings, batch_id).refresh()

    def batches(
        self,
        limit: int | None = 20,
        *,
        after: str | None = None,
        status: str | None = None,
        pipeline: str | None = None,
        name: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        tenant: str | None = None,
    ) -> list[BatchHandle]:
        """Return the newest batches, the newest first.

        limit: maximum number; None = all. The last one's id, given as `after`, continues the list.
        after: the id of a batch; only those after it in this list, which are older. Raises NotFound if it is gone.
        status, pipeline: only batches with this status, of this pipeline.
        name: only batches of this name, in which `*` stands for any text.
        since, until: only batches created then or later, or before; a time without a zone is in this machine's. Also
            text as `batchmill ls` takes it, such as "2026-11-25", or "6h" for six hours ago.
        tenant: only batches of this tenant.

        Raises UsageError if there is no such status, or no such time.
        """
        if status is not None and status not in list(BatchStatus):
            raise UsageError(f"there is no batch status {str(status)[:80]!r}; use {', '.join(BatchStatus)}")
        span = _parse_moment("since", since), _parse_moment("until", until, is_end=True)
        batch_filter = BatchFilter(status, pipeline, name, *span, after, tenant=tenant)
        batches: list[BatchHandle] = []
        while limit is None or len(batches) < limit:
            page_size = PAGE_BATCHES if limit is None else min(limit - len(batches), PAGE_BATCHES)
            page = views.list_batches(self.database, page_size, batch_filter)
            batches += (BatchHandle(self.database, self.settings, view.id, view=view) for view in page)
            if len(page) < page_size:
                break
            created_at = page[-1].timestamps["created_at"]
            assert created_at is not None
            batch_filter = replace(batch_filter, after=None, older_than=(created_at, page[-1].id))
        return batches

    def close(self) -> None:
        """Close the database's connections; the next call connects again."""
        if "database" in self.__dict__:
            self.database.close()

    def _handle_for(self, result: SubmitResult) -> BatchHandle:
        """The handle of a submitted batch, whose workers are woken and whose warnings are logged."""
        if result.source_failure is not None:
            log.warning('submission.source_failed batch_id=%s error="%s"', result.batch_id, result.source_failure)
        is_new = result.existing_status is None
        with suppress(BatchmillError):  # the batch is accepted, whatever else fails
            worker_views = workers.list_workers(self.database, self.settings.lease_seconds)
            if mismatch := model_checks.other_settings_warning(self.catalogue[result.pipeline], worker_views):
                log.warning('workers.other_settings batch_id=%s reason="%s"', result.batch_id, mismatch)
        warning = submit.notify_workers(self.settings, result.pipeline, result.slices) if is_new else result.warning
        if warning is not None and is_new:
            log.warning('wakeups.send_failed batch_id=%s error="%s"', result.batch_id, warning)
        elif warning is not None:
            log.warning('submission.skipped batch_id=%s reason="%s"', result.batch_id, warning)
        return BatchHandle(self.database, self.settings, result.batch_id, warning=warning, already_submitted=not is_new)


def _parse_moment(option: str, value: object, *, is_end: bool = False) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise UsageError(f"{option} is not a time; use a datetime, or text such as 2026-11-25 06:00")
    return times.parse_moment(value, is_end=is_end)
