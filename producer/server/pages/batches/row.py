"""`/batches/{id}/rows/{position}`: one job with its input, its result, its history and its neighbours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from models import error_catalogue
from models.errors import NotFound
from models.pipelines import redaction
from producer.batches import views
from producer.results import attempts
from producer.results.browsing import job_detail
from producer.results.browsing.job_detail import JobDetail, JobResult
from producer.server.context import Context, ServerContext
from producer.server.native import shown
from producer.server.native.batches.reading import BatchId
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render
from producer.server.pages.frame.texts import escape_json
from producer.server.pages.outputs.inputs import pretty, read_input
from producer.server.pages.outputs.reading import Reading, read_output
from producer.server.pages.outputs.verdicts import read_verdicts
from producer.tenants.principal import Principal

router = APIRouter()

MAX_POSITION = 2**63 - 1
MAX_ATTEMPTS = 100  # that are shown, the newest

Position = Annotated[int, Path(ge=0, le=MAX_POSITION)]


@dataclass(frozen=True, slots=True)
class ShownResult:
    """A result, and its output as people read it and as JSON."""

    result: JobResult
    reading: Reading
    json: str


@router.get("/batches/{batch_id}/rows/{position}")
def show_row(
    request: Request, context: Context, visitor: PageReader, batch_id: BatchId, position: Position
) -> Response:
    """Show one job."""
    values = row_values(context, visitor.principal, batch_id, position)
    return render(request, visitor, "batches/row.html", **values)


@router.get("/batches/{batch_id}/rows/{position}/{name}")
def send_document(context: Context, visitor: PageReader, batch_id: BatchId, position: Position, name: str) -> Response:
    """Send a whole document of a job as a text, which no browser interprets."""
    if name not in job_detail.DOCUMENTS:
        raise NotFound(f"a job has no {name[:80]!r}")
    views.check_visible(context.database, batch_id, visitor.principal.tenant)
    document = job_detail.read_document(context.database, batch_id, position, name)
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(document, headers=headers, media_type="text/plain; charset=utf-8")


def row_values(context: ServerContext, principal: Principal, batch_id: str, position: int) -> dict[str, Any]:
    """Return what the page of a job shows; raises NotFound."""
    batch = context.get_batch(principal, batch_id)
    views.check_not_deleting(batch)
    job = job_detail.get_job(context.database, batch_id, position)
    shown_input = read_input(job.input.text, job.input.length)
    result = None if job.result is None else _show_result(job.result, shown_input.document)
    return {
        "batch": batch,
        "job": job,
        "input": shown_input,
        "input_json": pretty(job.input.text),
        "original": None
        if job.original_input is None
        else read_input(job.original_input.text, job.original_input.length),
        "passthrough": None if job.passthrough is None else read_input(job.passthrough.text, job.passthrough.length),
        "result": result,
        "superseded": [_show_result(old, shown_input.document) for old in job.superseded],
        "verdicts": _verdicts(job),
        "model_version": None if job.version is None else shown.hide_folders(job.version, principal.tenant),
        "parameters": redaction.redact_parameters(batch.parameters),
        "explanation": _explanation(job),
        "history": attempts.job_history(context.database, batch_id, position)[-MAX_ATTEMPTS:],
        "source_exists": _is_visible(context, principal, job.source_batch_id),
        "input_to_repair": escape_json(pretty((job.original_input or job.input).text)),
        "refusal": None,  # of a repair
        "typed": None,
    }


def _show_result(result: JobResult, document: Mapping[str, Any]) -> ShownResult:
    text, length = (None, None) if result.output is None else (result.output.text, result.output.length)
    reading = read_output(text, length, result.vector, document)
    return ShownResult(result, reading, "" if text is None else pretty(text))


def _verdicts(job: JobDetail) -> Any:
    guards = None if job.result is None or job.result.guards is None else job.result.guards.text
    return read_verdicts(guards, only_caught=False)


def _explanation(job: JobDetail) -> error_catalogue.Explanation | None:
    return (
        None if job.result is None or job.result.error_code is None else error_catalogue.explain(job.result.error_code)
    )


def _is_visible(context: ServerContext, principal: Principal, batch_id: str | None) -> bool:
    if batch_id is None:
        return False
    try:
        views.check_visible(context.database, batch_id, principal.tenant)
    except NotFound:
        return False
    return True
