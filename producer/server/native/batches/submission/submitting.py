"""Submitting over HTTP: small sources are accepted within the request, others are taken in afterwards.

A submission that is read within its request is the same as one of the command line: it is refused whole, with the rows
that are wrong, or accepted. Otherwise the batch is `validating` until its rows were read, and `failed` with
`input_errors` if they can't be jobs.
"""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace

from models.errors import Forbidden, InvalidParameters, InvalidRows, NotFound, UnreadableSource, UsageError
from models.pipelines.pipeline import Pipeline
from producer.error_params import naming
from producer.readers.items import open_items
from producer.readers.limits import Limits
from producer.readers.rows import Source
from producer.readers.sql import sql_sources
from producer.server.context import ServerContext
from producer.server.native.batches.submission import warnings
from producer.server.native.batches.submission.submission_options import SubmissionOptions
from producer.submission import submit
from producer.submission.request import SubmitRequest
from producer.tenants.principal import Principal, check_tenant
from producer.uploads import files
from producer.uploads.files import FileView, NewFile
from producer.uploads.intake import opening, sources
from producer.uploads.intake.immediate_reading import is_immediate
from producer.uploads.intake.read_request import ReadRequest
from producer.uploads.multipart import Upload
from producer.uploads.storage.store import FileStore, open_store
from producer.webhooks import webhook_address

OTHER_SOURCES = ("sql", "from_batch", "file_id")  # than a body


@dataclass(frozen=True, slots=True)
class Submitted:
    """A batch that a request submitted.

    existed: under its idempotency key
    warning: why workers may start late, or how an existing batch ended
    webhook_url: of a new batch
    """

    batch_id: str
    existed: bool = False
    warning: str | None = None
    webhook_url: str | None = None


@dataclass(frozen=True)
class Submission:
    """One request, checked as far as that is possible before any row is read; raises UsageError.

    principal: who submits
    idempotency_key: the header of the request
    is_from_page: whether a form of the pages asks for it
    """

    context: ServerContext
    principal: Principal
    options: SubmissionOptions
    idempotency_key: str | None = None
    is_from_page: bool = False

    def __post_init__(self) -> None:
        options = self.options
        _ = self.request
        if options.sql is not None:
            sql_sources.find_sql_source(self.context.settings, options.sql, self._tenant)
        has_rows = options.sql is None and options.from_batch is None
        self.read_request.check(self.context.settings, self._pipeline, has_file=has_rows)
        if options.ids is not None and options.inputs is None:
            message = "ids go with inputs; name the column that has the custom_ids as id_column"
            raise UsageError(message, param="ids")
        if options.ids is not None and options.id_column is not None:
            raise UsageError("ids and id_column both name the custom_ids; give one of them", param="id_column")

    @property
    def request(self) -> SubmitRequest:
        """What is submitted, without its rows; raises UsageError."""
        options = self.options
        if options.webhook_url is not None:
            webhook_address.check_allowed(options.webhook_url, self.context.settings)
        given = replace(options.submit_options, idempotency_key=self.idempotency_key, tenant=self._tenant)
        max_unanswered_jobs = self.context.settings.unanswered_jobs_cap(self._tenant)
        try:
            return given.request(self._pipeline, options.from_batch, max_unanswered_jobs)
        except InvalidParameters as error:
            error.param = "parameters"
            raise

    @property
    def read_request(self) -> ReadRequest:
        """How the rows are read."""
        return replace(self.options.read_request, is_from_page=self.is_from_page)

    def submit_document(self) -> Submitted:
        """Submit what a JSON body names: inputs, a query, results of a batch, or an uploaded file."""
        options = self.options
        given = [options.inputs, options.sql, options.from_batch, options.file_id]
        if sum(source is not None for source in given) != 1:
            raise UsageError("say what to submit: inputs, sql, from_batch or file_id, and only one of them")
        if options.inputs is not None:
            with naming("inputs", InvalidRows, UnreadableSource):
                return self._submit_now(self.open_inputs())
        if options.file_id is not None:
            file = files.get_file(self.context.database, options.file_id, self._tenant, "file_id")
            files.check_input(file, "file_id")
            return self._open(file)
        with naming("from_batch", NotFound):
            return self._open(None)

    def submit_upload(self, upload: Upload) -> Submitted:
        """Submit a body that is in the file store."""
        with ExitStack() as cleanup:
            cleanup.callback(self._store.delete, upload.stored.location)
            if other := next((name for name in OTHER_SOURCES if getattr(self.options, name) is not None), None):
                message = "the body has the rows already; leave out sql, from_batch and file_id"
                raise UsageError(message, param=other)
            if is_immediate(self._store, upload.stored.location, upload.stored.size_bytes):
                return self._submit_now(self.open_upload(upload))
            new = NewFile(upload.filename, tenant=self._tenant, stored=upload.stored)
            file = files.save_file(self.context.database, self.context.settings, new)
            cleanup.pop_all()  # the file has a row now, which maintenance cares for
        try:
            return self._open(file)
        finally:  # nobody else needs it; its bytes stay until the batch was read
            files.delete_file(self.context.database, file.id)

    def open_inputs(self) -> AbstractContextManager[Source]:
        """The rows of a JSON body."""
        columns = self.read_request.columns(self._pipeline)
        limits = Limits.from_settings(self.context.settings)
        return nullcontext(open_items(self.options.inputs, self.options.ids, columns, limits))

    def open_upload(self, upload: Upload) -> AbstractContextManager[Source]:
        """The rows of a body that is in the file store."""
        return sources.open_file(
            Limits.from_settings(self.context.settings),
            self._store,
            upload.stored.location,
            "the body",
            self._pipeline,
            self.read_request,
        )

    def _submit_now(self, source: AbstractContextManager[Source]) -> Submitted:
        """Submit a source that is read within the request."""
        settings = self.context.settings
        with source as rows:
            result = submit.submit(
                self.context.database,
                settings.slice_size,
                self.request,
                rows,
                on_slices_queued=submit.WakeupSender(self.context.wakeup_breaker.send),
            )
        if result.existing_status is not None:
            return Submitted(result.batch_id, existed=True, warning=result.warning)
        warning = warnings.notify_workers(self.context, result.pipeline, result.slices)
        warning = "; ".join([*rows.doubts, *([] if warning is None else [warning])]) or None
        return Submitted(result.batch_id, warning=warning, webhook_url=self.options.webhook_url)

    def _open(self, file: FileView | None) -> Submitted:
        """Open a batch whose rows are read afterwards, or at once if its file is small."""
        context = self.context
        is_small = file is not None and is_immediate(self._store, file.location or "", file.size_bytes or 0)
        opened = opening.open_batch(
            context.database,
            context.settings,
            replace(self.request, source_batch_id=None),
            self.read_request,
            file,
            is_read_here=is_small,
        )
        if opened.submission is not None:
            context.intake.take_in(opened.id, opened.submission)
        return Submitted(opened.id, opened.existed, webhook_url=None if opened.existed else self.options.webhook_url)

    @property
    def _pipeline(self) -> Pipeline:
        return self.context.catalogue[self.options.pipeline]

    @property
    def _tenant(self) -> str:
        wanted = self.options.tenant
        if wanted is None or wanted == self.principal.home_tenant:
            return self.principal.home_tenant
        if self.principal.tenant is not None:
            raise Forbidden(f"this key submits for {self.principal.tenant} only; leave out tenant", param="tenant")
        return check_tenant(wanted)

    @property
    def _store(self) -> FileStore:
        return open_store(self.context.settings)
