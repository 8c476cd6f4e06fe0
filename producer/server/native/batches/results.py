"""`GET /api/batches/{id}/results`: a page of JSON by a cursor, or all rows as a file that is made while it is read."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from models.errors import NotFound, UsageError
from producer.batches import views
from producer.results import export, pages
from producer.results.arguments import MAX_SEQ
from producer.results.json_lines import JsonResult
from producer.server import downloads
from producer.server.access import Reader
from producer.server.context import Context
from producer.server.native import responses, shown
from producer.server.native.batches import objects
from producer.server.native.batches.reading import BatchId
from producer.server.requests.accept_header import accepted_types

router = APIRouter(tags=["results"])

MAX_LIMIT, DEFAULT_LIMIT = 1_000, 100  # of a page
MAX_ROWS = 2**62

Format = Literal["json", "ndjson", "csv", "parquet", "npy"]
MEDIA_TYPES = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "npy": "application/x-npy",
}
FORMAT_BY_MEDIA_TYPE: dict[str, Format] = {
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-npy": "npy",
}
SUFFIXES = {"ndjson": "jsonl"}
FILES = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in FORMAT_BY_MEDIA_TYPE}

After = Annotated[int, Query(ge=0, le=MAX_SEQ, description="Only results after this `seq`.")]
Limit = Annotated[
    int | None, Query(ge=1, le=MAX_ROWS, description="At most 1,000 in JSON; unset: 100, or all in a file.")
]
Statuses = Annotated[list[objects.JobStatus], Query(max_length=4, description="Only these; may be repeated.")]
FORMAT_QUERY = Query(description="Unset: as the `Accept` header says, else a page of JSON.")
FormatOption = Annotated[Format | None, FORMAT_QUERY]
ErrorFormatOption = Annotated[Literal["json", "ndjson", "csv", "parquet"] | None, FORMAT_QUERY]


def choose_format(request: Request, given: Format | None) -> Format:
    """The format that a request asks for; JSON if it accepts anything."""
    if given is not None:
        return given
    formats: dict[str, Format] = {**FORMAT_BY_MEDIA_TYPE, responses.JSON: "json", "*/*": "json"}
    accepted = accepted_types(request.headers.get("accept", ""))
    return next((formats[name] for name in accepted if name in formats), "json")


def page_response(rows: list[JsonResult], *, has_more: bool, next_after: int) -> Response:
    """A page of rows, whose JSON comes from the database: a model for each row takes longer than the query."""
    data = ",".join([row.text for row in rows])
    end = f'],"has_more":{"true" if has_more else "false"},"next_after":{next_after}}}'
    return Response(f'{{"object":"list","data":[{data}{end}', media_type=responses.JSON)


def page_limit(limit: int | None) -> int:
    """The rows of a page of JSON; raises UsageError beyond what fits into one."""
    if limit is not None and limit > MAX_LIMIT:
        message = f"a page of JSON has at most {MAX_LIMIT:,} rows; use the cursor `after`, or format=ndjson"
        raise UsageError(message, param="limit")
    return limit or DEFAULT_LIMIT


@router.get(
    "/batches/{batch_id}/results",
    summary="Read results",
    response_model=objects.ResultPage,
    responses={200: {"content": FILES}},
)
def read_results(
    request: Request,
    context: Context,
    principal: Reader,
    batch_id: BatchId,
    after: After = 0,
    limit: Limit = None,
    status: Statuses = [],  # noqa: B006 (FastAPI copies it)
    format: FormatOption = None,  # noqa: A002 (the parameter's name)
    order: Annotated[Literal["position", "seq"], Query(description="The order of the rows of a file.")] = "position",
) -> Response:
    """Read the results so far: a page in the order in which they landed, or a file in the order of the inputs.

    A file is made while it is read, in constant memory. If it breaks off, the response ends without its last chunk.
    """
    statuses, chosen = export.parse_statuses(status), choose_format(request, format)
    if chosen == "json":
        count, hides_folders = page_limit(limit), principal.tenant is not None
        views.check_visible(context.database, batch_id, principal.tenant)
        page, has_more = pages.fetch_page(
            context.database, batch_id, after, count, statuses, hides_folders=hides_folders
        )
        return page_response(page, has_more=has_more, next_after=page[-1].seq if page else after)
    if chosen == "npy" and (after or limit or statuses or order == "seq"):
        message = "a .npy file has a row for each job of the batch; leave out after, limit, status and order"
        raise UsageError(message, param="format")
    batch = context.get_batch(principal, batch_id)
    views.check_not_deleting(batch)
    if order == "seq":
        selected = pages.iter_results(context.database, batch_id, after, limit, statuses)
    else:
        selected = pages.iter_by_position(context.database, batch_id, after, statuses, limit=limit)
    rows = shown.result_rows(selected, principal.tenant)
    blocks = export.open_export(context.database, batch, rows, SUFFIXES.get(chosen, chosen))
    file_name = f"{batch_id}.{SUFFIXES.get(chosen, chosen)}"
    return downloads.download(blocks, context.download_threads, MEDIA_TYPES[chosen], file_name)


@router.get("/batches/{batch_id}/results/{position}", summary="Read one result", response_model=objects.Result)
def read_result(
    context: Context,
    principal: Reader,
    batch_id: BatchId,
    position: Annotated[int, Path(ge=0, le=MAX_SEQ, description="The job's place among the inputs, from 0.")],
) -> Response:
    """Read the result of one job; 404 while it has none."""
    views.check_visible(context.database, batch_id, principal.tenant)
    rows = pages.fetch_at_positions(context.database, batch_id, [position])
    if not rows or rows[0].position != position:
        raise NotFound(f"{batch_id} has no result at position {position:,}; it may land later")
    [row] = shown.result_rows(rows, principal.tenant)
    return Response(row.json_line(), media_type=responses.JSON)


@router.get(
    "/batches/{batch_id}/errors",
    summary="Read failed jobs",
    response_model=objects.ErrorPage,
    responses={200: {"content": {name: FILES[name] for name in FILES if name != MEDIA_TYPES["npy"]}}},
)
def read_errors(
    request: Request,
    context: Context,
    principal: Reader,
    batch_id: BatchId,
    after: Annotated[int, Query(ge=-1, le=MAX_SEQ, description="Only jobs after this position.")] = -1,
    limit: Limit = None,
    code: Annotated[str | None, Query(max_length=200, description="Only failures with this code.")] = None,
    format: ErrorFormatOption = None,  # noqa: A002 (the parameter's name)
) -> Response:
    """Read the failed jobs in the order of the inputs: a page of JSON, or a file with all of them."""
    chosen = choose_format(request, format)
    if chosen == "json":
        count, hides_folders = page_limit(limit), principal.tenant is not None
        views.check_visible(context.database, batch_id, principal.tenant)
        page, has_more = pages.fetch_failed_page(
            context.database, batch_id, after, count, code, hides_folders=hides_folders
        )
        return page_response(page, has_more=has_more, next_after=page[-1].position if page else after)
    if chosen == "npy":
        message = "errors are no vectors, which a .npy file needs; ask for ndjson, csv or parquet"
        raise UsageError(message, param="format")
    if after >= 0:
        raise UsageError("a file has all failed jobs; leave out after", param="after")
    batch = context.get_batch(principal, batch_id)
    views.check_not_deleting(batch)
    failed = pages.iter_failed(context.database, batch_id, code, limit)
    rows = shown.result_rows(failed, principal.tenant)
    blocks = export.open_export(context.database, batch, rows, SUFFIXES.get(chosen, chosen))
    file_name = f"{batch_id}-errors.{SUFFIXES.get(chosen, chosen)}"
    return downloads.download(blocks, context.download_threads, MEDIA_TYPES[chosen], file_name)


@router.get(
    "/batches/{batch_id}/errors/counts", summary="Count failed jobs by code", response_model=objects.FailureCounts
)
def count_errors(context: Context, principal: Reader, batch_id: BatchId) -> Response:
    """Count the failed jobs by code, the most frequent first."""
    views.check_visible(context.database, batch_id, principal.tenant)
    counts = pages.count_failures(context.database, batch_id)
    return responses.list_response([{"code": code, "jobs": jobs} for code, jobs in counts.items()])
