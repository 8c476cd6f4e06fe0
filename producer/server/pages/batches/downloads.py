"""`/batches/{id}/download`: the results as a file, and the same by command and by HTTP."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from models.errors import UsageError
from models.states import JobOutcome
from models.tasks.feature_extraction import FEATURE_EXTRACTION, NO_POOLING
from producer.batches import views
from producer.results import arguments, export, pages
from producer.results.result_row import ResultRow
from producer.server import downloads
from producer.server.context import Context, ServerContext
from producer.server.native.batches.reading import BatchId
from producer.server.native.batches.results import MEDIA_TYPES, SUFFIXES
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render

router = APIRouter()

MAX_CODE_CHARACTERS = 200
EXTENSIONS = {name: SUFFIXES.get(name, name) for name in MEDIA_TYPES}
NAMES = {"csv": "CSV", "ndjson": "JSON lines", "parquet": "Parquet", "npy": "NumPy matrix"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What is downloaded.

    status: only these outcomes; empty = all
    code: only failures with this code
    """

    format: str
    status: tuple[JobOutcome, ...]
    code: str | None


@router.get("/batches/{batch_id}/download")
def download(
    request: Request,
    context: Context,
    visitor: PageReader,
    batch_id: BatchId,
    format: Annotated[str | None, Query(max_length=20)] = None,  # noqa: A002 (the parameter's name)
    code: Annotated[str | None, Query(max_length=MAX_CODE_CHARACTERS)] = None,
) -> Response:
    """Send the results in a format; without one show which there are."""
    statuses = [status for status in request.query_params.getlist("status") if status]
    batch = context.get_batch(visitor.principal, batch_id)
    views.check_not_deleting(batch)
    if format is not None:
        choice = Choice(format, arguments.parse_statuses(statuses), code or None)
        return _send(context, batch, choice)
    names, commands = _formats(batch), _commands(request, batch_id)
    return render(request, visitor, "batches/download.html", batch=batch, names=names, commands=commands)


def _send(context: ServerContext, batch: views.BatchView, choice: Choice) -> Response:
    if choice.format not in MEDIA_TYPES:
        raise UsageError(f"there is no format {choice.format!r}; take one of {', '.join(MEDIA_TYPES)}")
    if choice.format == "npy" and (choice.status or choice.code):
        raise UsageError("a .npy file has a row for each job of the batch; leave out status and code")
    extension = EXTENSIONS[choice.format]
    blocks = export.open_export(context.database, batch, _rows(context, batch.id, choice), extension)
    part = "-errors" if choice.code or choice.status == (JobOutcome.FAILED,) else ""
    file_name = f"{batch.id}{part}.{extension}"
    return downloads.download(blocks, context.download_threads, MEDIA_TYPES[choice.format], file_name)


def _rows(context: ServerContext, batch_id: str, choice: Choice) -> Iterator[ResultRow]:
    if choice.code:
        return pages.iter_failed(context.database, batch_id, choice.code)
    return pages.iter_by_position(context.database, batch_id, statuses=choice.status)


def _formats(batch: views.BatchView) -> dict[str, str]:
    """The formats that this batch can be had in: a matrix only if its outputs are vectors."""
    has_vectors = batch.task == FEATURE_EXTRACTION.name and batch.parameters.get("pooling") != NO_POOLING
    return {name: title for name, title in NAMES.items() if name != "npy" or has_vectors}


def _commands(request: Request, batch_id: str) -> list[tuple[str, str]]:
    """The same download by command and by HTTP, each with its title."""
    address = f"{request.base_url}api/batches/{batch_id}/results?{urlencode({'format': 'csv'})}"
    quoted = shlex.quote(batch_id)
    key = '-H "Authorization: Bearer $BATCHMILL_API_KEY" '
    return [
        ("All results, with the command", f"batchmill results {quoted} -o {quoted}.csv"),
        ("Failed jobs, ready to be corrected", f"batchmill errors {quoted} -o errors.jsonl"),
        ("All results, over HTTP", f"curl -f {key}{shlex.quote(address)} -o {quoted}.csv"),
        ("In Python", f'batchmill.Client().batch("{batch_id}").to_pandas()'),
    ]
