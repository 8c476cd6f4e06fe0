"""`POST /api/batches` and `POST /api/dry-run`: rows as JSON, as a file in the body or in a form, or by name."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, HTTPException, Query, Request, Response

from models.errors import UsageError
from producer.advice import Door, in_door
from producer.batches import views
from producer.readers.files.source_files import format_from_name
from producer.server.access import Submitter
from producer.server.context import Context, ServerContext
from producer.server.following import streams
from producer.server.native import responses, shown
from producer.server.native.batches import objects
from producer.server.native.batches.submission import bodies, refusals, sample_check, submission_options, warnings
from producer.server.native.batches.submission.submission_docs import DRY_RUN_DOCS, SUBMIT_DOCS
from producer.server.native.batches.submission.submission_options import SubmissionOptions
from producer.server.native.batches.submission.submitting import Submission, Submitted
from producer.submission.ingestion import warn_of_ended
from producer.submission.request import MAX_IDEMPOTENCY_KEY_CHARACTERS
from producer.tenants.principal import Principal
from producer.uploads.multipart import Upload
from producer.uploads.storage.store import open_store

router = APIRouter(tags=["batches"])

MAX_WAIT_SECONDS = 60.0
QUERY_ONLY = ("wait",)


@router.post(
    "/batches", summary="Submit a batch", status_code=201, response_model=objects.SubmittedBatch, **SUBMIT_DOCS
)
async def submit_batch(
    request: Request,
    context: Context,
    principal: Submitter,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT_SECONDS, description="How many seconds to wait until all rows were read.")
    ] = 10.0,
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=MAX_IDEMPOTENCY_KEY_CHARACTERS,
            description="The same request with the same key is the same batch.",
        ),
    ] = None,
) -> Response:
    """Submit one batch: a JSON object, or rows as the body with the options in the query string.

    A small source is refused whole with 400 and the rows that are wrong, or accepted with 201. A larger one, a query
    and the results of a batch are read afterwards: 202 is the answer if that takes longer than `wait`, and the batch
    turns `failed` with `input_errors` if rows can't be jobs. Within `wait` that is a 400, too, and nothing stays.
    """
    kind = bodies.content_type(request)
    if kind == responses.JSON:
        body = await bodies.read_body(request)

        def submit_document() -> Submitted:
            options = _parse_document(request, body)
            return Submission(context, principal, options, idempotency_key).submit_document()

        submitted = await to_thread.run_sync(submit_document)
    else:
        submitted = await _submit_upload(request, context, principal, kind, idempotency_key)
    return await _answer(context, principal, submitted, wait)


@router.post("/dry-run", summary="Check a submission", response_model=dict[str, Any], **DRY_RUN_DOCS)
async def check_submission(request: Request, context: Context, principal: Submitter) -> Response:
    """Read and check a sample of rows, or the start of an uploaded file, as a submission would, and write nothing.

    The answer has the number of rows, the problems of the first invalid ones, the lengths of the inputs, and, where
    batches of the same pipeline have run, how long it may take. Of a file, `file_rows` is the number of rows as far as
    that is known, `is_sample` says that only the first were read, and `seconds` is for all of them.
    """
    kind, body = bodies.content_type(request), await bodies.read_body(request)

    def check() -> Response:
        if kind == responses.JSON:
            submission = Submission(context, principal, _parse_document(request, body))
            if submission.options.file_id is not None and submission.options.inputs is None:
                return sample_check.check_file(submission, submission.options.file_id)
            if submission.options.inputs is None:
                names = [name for name in ("sql", "from_batch") if getattr(submission.options, name) is not None]
                message = "a dry run checks a sample: give inputs, file_id, or rows as the body"
                raise UsageError(message, param=next(iter(names), None))
            return sample_check.check_sample(submission, submission.open_inputs())
        options = _complete_format(_parse_query(request), bodies.FORMAT_BY_TYPE[kind], None)
        submission = Submission(context, principal, options)
        return sample_check.check_body(submission, body)

    if kind == bodies.FORM:
        raise HTTPException(415, "a dry run takes no form; send the rows as the body, and the options in the query")
    return await to_thread.run_sync(check, limiter=context.dry_run_threads)


async def _submit_upload(
    request: Request, context: ServerContext, principal: Principal, kind: str, idempotency_key: str | None
) -> Submitted:
    """Take the body into the file store, and submit it."""
    body_options: SubmissionOptions | None = None
    if kind != bodies.FORM:
        body_options = _complete_format(_parse_query(request), bodies.FORMAT_BY_TYPE[kind], None)
        # Before anything is received.
        await to_thread.run_sync(Submission, context, principal, body_options, idempotency_key)

    upload = await bodies.receive(request, context)

    def submit_upload() -> Submitted:
        try:
            options = body_options or _form_options(request, upload)
            submission = Submission(context, principal, options, idempotency_key)
        except Exception:
            open_store(context.settings).delete(upload.stored.location)
            raise
        return submission.submit_upload(upload)

    return await to_thread.run_sync(submit_upload)


async def _answer(context: ServerContext, principal: Principal, submitted: Submitted, wait: float) -> Response:
    """The batch, once its rows were read or the wait is over; raises the reason if they can't be jobs."""
    async with context.watch.follow(submitted.batch_id) as follower:
        await streams.wait_until(follower, wait, "validating")
    batch = await to_thread.run_sync(views.get_batch, context.database, submitted.batch_id)
    if not submitted.existed:
        await to_thread.run_sync(refusals.refuse_failed, context, batch)
        warning = warnings.join_warnings(context.settings, submitted.warning, submitted.webhook_url)
    else:
        warning = submitted.warning or warn_of_ended(batch.id, batch.status)
    shown_batch = shown.batch_object(batch, principal.tenant)
    warning = warning and in_door(warning, Door.HTTP)
    document = {**shown_batch, "already_submitted": submitted.existed, "warning": warning}
    status = 202 if batch.status == "validating" else 200 if submitted.existed else 201
    return responses.json_response(document, status, {"location": f"/api/batches/{batch.id}"})


def _parse_document(request: Request, body: bytes) -> SubmissionOptions:
    name = next((name for name in request.query_params if name not in QUERY_ONLY), None)
    if name is not None:
        raise UsageError("options go into the JSON body; leave them out of the query string", param=name)
    return submission_options.parse_document(submission_options.parse_json("the body", body))


def _parse_query(request: Request) -> SubmissionOptions:
    return submission_options.parse_texts(_query_pairs(request))


def _form_options(request: Request, upload: Upload) -> SubmissionOptions:
    for name in QUERY_ONLY:
        if name in upload.fields:
            raise UsageError(f"{name} goes into the query string, also with a form", param=name)
    options = submission_options.parse_texts([*_query_pairs(request), *upload.fields.items()])
    return _complete_format(options, None, upload.filename)


def _query_pairs(request: Request) -> list[tuple[str, str]]:
    return [(name, value) for name, value in request.query_params.multi_items() if name not in QUERY_ONLY]


def _complete_format(options: SubmissionOptions, file_format: str | None, filename: str | None) -> SubmissionOptions:
    """The options with the format that the Content-Type or the file's name shows, unless they name one."""
    if options.file_format is not None:
        return options
    if file_format is None and filename is not None:
        file_format = format_from_name(filename)
    if file_format is None:
        raise UsageError("say what the body is: file_format=jsonl, csv, tsv, parquet or text", param="file_format")
    return options.model_copy(update={"file_format": file_format})
