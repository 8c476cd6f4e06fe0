"""The client: Batchmill from Python."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import zip_longest
from os import PathLike
from typing import Any, Self

from models import schema
from models.db import Database
from models.errors import JobError, UsageError
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from producer.batches import views
from producer.handle import BatchHandle
from producer.readers.limits import Limits
from producer.readers.rows import ColumnMapping, Problem, Row, Source, parse_custom_id, unexpected_problem
from producer.submission import submit
from producer.submission.request import REJECT, SubmitRequest

log = logging.getLogger(__name__)

MISSING: Any = object()


class Client:
    """Submits batches and finds them again; settings not given here come from the environment and batchmill.toml.

    Nothing is read or connected before the first call.
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
        return Settings.load(**self._overrides)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The pipelines there are."""
        return Catalogue.load(self.settings)

    @cached_property
    def database(self) -> Database:
        """The database; the embedded one is made or upgraded when needed. Raises Unreachable."""
        settings = self.settings
        return schema.open_database(settings)

    def submit(
        self,
        pipeline: str,
        inputs: Iterable[str | Mapping[str, Any]],
        *,
        ids: Iterable[str | int | None] | None = None,
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        priority: int = 0,
        on_invalid: str = REJECT,
        deadline: str | None = None,
        max_failures: str | int | None = None,
        idempotency_key: str | None = None,
        passthrough: Iterable[str] = (),
        reuse: bool = False,
    ) -> BatchHandle:
        """Submit one batch and return as soon as it is accepted.

        `inputs` are texts, or objects with the task's fields and perhaps a `custom_id` or `id`; a generator is read in
        constant memory. `ids` are the custom_ids, one for each input. Raises RefusedBatch naming the items that can't
        be jobs, and other UsageErrors; then nothing was submitted. With `on_invalid="fail-row"` such an item is in the
        batch as a failed result that says why, and the others run. Past the `deadline` ("6h", or a time) what is open
        has expired; more failed jobs than `max_failures` (20, or "2.5%") end the batch early. `meta` names keys of the
        objects that are kept with each job. The same inputs under the same `idempotency_key` are one batch, however
        often they are submitted; after a crash the submission goes on where it stopped. One that has failed, expired or
        was cancelled since is logged as a warning, which the handle's `warning` has too. With `reuse` an input that an
        earlier batch answered, by the same model and with the same parameters, has that result at once.
        """
        entry = self.catalogue[pipeline]
        request = SubmitRequest.create(
            entry,
            parameters=parameters,
            name=name,
            metadata=metadata,
            priority=priority,
            on_invalid=on_invalid,
            deadline=deadline,
            max_failures=max_failures,
            idempotency_key=idempotency_key,
            reuse=reuse,
        )
        source = Source(
            "the list of inputs",
            "item",
            _rows(entry, inputs, ids, passthrough),
            limits=Limits.from_settings(self.settings),
        )
        bells = submit.WakeupSender(self.settings)
        submission = submit.submit(self.database, self.settings.slice_size, request, source, on_slices_queued=bells)
        if submission.source_failure is not None:
            log.warning("%s ends before its source does: %s", submission.batch_id, submission.source_failure)
        if submission.existing_status is not None:
            warning = submission.warning
            if warning:
                log.warning("%s", warning)
        elif warning := submit.notify_workers(self.settings, submission):
            log.warning("%s was accepted, but %s", submission.batch_id, warning)
        return BatchHandle(
            self.database,
            submission.batch_id,
            warning=warning,
            already_submitted=submission.existing_status is not None,
        )

    def batch(self, batch_id: str) -> BatchHandle:
        """A batch submitted earlier; raises NotFound."""
        return BatchHandle(self.database, batch_id).refresh()

    def batches(self, limit: int = 20) -> list[BatchHandle]:
        """The batches submitted last, the newest first."""
        newest = views.list_batches(self.database, limit)
        return [BatchHandle(self.database, view.id, view=view) for view in newest]

    def close(self) -> None:
        """Return the database's connections; the next call connects again."""
        if "database" in self.__dict__:
            self.database.close()


def _rows(
    pipeline: Pipeline, inputs: Iterable[Any], ids: Iterable[Any] | None, passthrough: Iterable[str]
) -> Iterator[Row | Problem]:
    if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable):
        raise UsageError("inputs must be a list, or other iterable, of texts or objects; put a single one into a list")
    columns = ColumnMapping.for_task(pipeline.spec, use_ids=ids is None, passthrough=passthrough)
    pairs = ((item, None) for item in inputs) if ids is None else zip_longest(inputs, ids, fillvalue=MISSING)
    return _iter_rows(pairs, columns)


def _iter_rows(pairs: Iterable[tuple[Any, Any]], columns: ColumnMapping) -> Iterator[Row | Problem]:
    for where, (item, custom_id) in enumerate(pairs, start=1):
        if item is MISSING or custom_id is MISSING:
            raise UsageError(f"inputs and ids are not equally many: one of them ends before item {where}")
        try:
            row: Row | Problem = columns.map_row(where, dict(item) if isinstance(item, Mapping) else item)
            if custom_id is not None:
                row = row._replace(custom_id=parse_custom_id(custom_id))
        except JobError as error:
            row = Problem(where, str(error), error.code)
        except Exception as error:
            row = unexpected_problem(where, error)
        yield row
