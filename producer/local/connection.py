"""A client's connection to a database."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from models import schema
from models.db import Database
from models.errors import BatchmillError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings, unknown_variables
from producer.batches import views
from producer.batches.batch_view import BatchView
from producer.batches.listing import BatchFilter
from producer.connection import BatchQuery, Submitted
from producer.local.batch import LocalBatch
from producer.readers.column_mapping import ColumnMapping
from producer.readers.input_source import PythonSource
from producer.readers.mapping_advice import PYTHON_ADVICE
from producer.readers.results.columns import ResultColumns
from producer.submission import submit
from producer.submission.ingestion import SubmitResult
from producer.submission.options import SubmitOptions
from producer.tenants.principal import DEFAULT_TENANT
from producer.workers import model_checks, workers

log = logging.getLogger(__name__)

PAGE_BATCHES = 1_000  # read at once


class LocalConnection:
    """Settings, catalogue and database of a client, each read or opened on its first use."""

    def __init__(self, overrides: Mapping[str, Any]) -> None:
        self._overrides = overrides

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

    def submit(self, pipeline: str, source: PythonSource, options: SubmitOptions) -> Submitted:
        """Submit one batch."""
        selection = source.selection
        request = options.request(
            self.catalogue[pipeline],
            None if selection is None else selection.batch_id,
            self.settings.unanswered_jobs_cap(options.tenant or DEFAULT_TENANT),
        )
        mapping = ColumnMapping if selection is None else ResultColumns
        columns = mapping.for_task(
            request.pipeline.spec,
            options.input_columns,
            options.id_column,
            use_ids=source.ids is None,
            passthrough=options.passthrough_columns(),
            advice=PYTHON_ADVICE,
        )
        with source.open(self.settings, columns, keep_invalid=request.keep_invalid) as rows:
            result = submit.submit(
                self.database,
                self.settings.slice_size,
                request,
                rows,
                on_slices_queued=submit.WakeupSender(partial(submit.notify_workers, self.settings)),
            )
        return self._report(result, rows.doubts)

    def batch(self, batch_id: str) -> LocalBatch:
        """Return the access to a batch."""
        return LocalBatch(self.database, self.settings, batch_id)

    def list_batches(self, limit: int | None, query: BatchQuery) -> list[tuple[LocalBatch, BatchView]]:
        """Return the newest batches, the newest first."""
        batch_filter = BatchFilter(
            query.status,
            query.pipeline,
            query.name,
            query.since,
            query.until,
            query.after,
            tenant=query.tenant,
            search=query.search,
        )
        found: list[tuple[LocalBatch, BatchView]] = []
        while limit is None or len(found) < limit:
            page_size = PAGE_BATCHES if limit is None else min(limit - len(found), PAGE_BATCHES)
            page = views.list_batches(self.database, page_size, batch_filter)
            found += ((self.batch(view.id), view) for view in page)
            if len(page) < page_size:
                break
            created_at = page[-1].timestamps["created_at"]
            assert created_at is not None
            batch_filter = replace(batch_filter, after=None, older_than=(created_at, page[-1].id))
        return found

    def close(self) -> None:
        """Close the database's connections."""
        if "database" in self.__dict__:
            self.database.close()

    def _report(self, result: SubmitResult, doubts: Sequence[str]) -> Submitted:
        """Wake workers for a submitted batch, and log its warnings, except doubts, which quote rows."""
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
        texts = [*(doubts if is_new else ()), *([] if warning is None else [warning])]
        return Submitted(self.batch(result.batch_id), "; ".join(texts) or None, already_submitted=not is_new)
