"""`/submit`: choose a pipeline and give a file, lines of text, or the example."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from models.errors import NotFound, UsageError
from producer.catalogue import examples
from producer.readers.files.source_files import FILE_FORMATS
from producer.server.context import Context, ServerContext
from producer.server.native.batches.submission import submission_options
from producer.server.native.batches.submission.submitting import Submission
from producer.server.pages.access.visitor import ActionForm, PageSubmitter, Visitor
from producer.server.pages.frame.headers import attachment
from producer.server.pages.frame.rendering import is_part, render, see_other
from producer.server.pages.submit import pipeline_choices, problems
from producer.server.pages.submit.problems import FormProblem

router = APIRouter()

EXAMPLE_NAME = "example"


@dataclass(frozen=True, slots=True)
class StartForm:
    """What the first page has in its fields."""

    pipeline: str | None = None
    texts: str = ""


@router.get("/submit")
def show_start(request: Request, context: Context, visitor: PageSubmitter, pipeline: str | None = None) -> Response:
    """Show the form."""
    return render_start(request, context, visitor, StartForm(pipeline))


@router.get("/submit/pipeline")
def show_pipeline(request: Request, context: Context, visitor: PageSubmitter, pipeline: str = "") -> Response:
    """Show what a pipeline takes, as a part of the form; the address of the page then names it too."""
    if not is_part(request):
        return see_other(request, visitor, f"/submit{_query(pipeline)}")
    values = _values(context, visitor, pipeline)
    if values["choice"] is None or values["choice"].name != pipeline:
        raise NotFound(f"there is no pipeline {pipeline[:80]!r}; choose one of the list")
    response = render(request, visitor, "submit/_pipeline.html", **values)
    response.headers["hx-replace-url"] = f"/submit{_query(pipeline)}"
    return response


@router.get("/submit/example")
def download_example(context: Context, visitor: PageSubmitter, pipeline: str) -> Response:
    """Download the example of a pipeline as JSON lines."""
    lines = _example(context, pipeline)
    headers = attachment(f"{context.catalogue[pipeline].name}-example.jsonl")
    return Response(lines, media_type="application/x-ndjson", headers=headers)


@router.post("/submit/example")
def submit_example(request: Request, context: Context, visitor: PageSubmitter, form: ActionForm) -> Response:
    """Submit the example of a pipeline."""
    name = str(form.get("pipeline") or "")[:200]
    lines = _example(context, name)
    pipeline = context.catalogue[name]
    document = {
        "pipeline": name,
        "inputs": [examples.parse_line(line) for line in lines.splitlines()],
        "name": EXAMPLE_NAME,
        "parameters": examples.example_parameters(pipeline),
    }
    options = submission_options.parse_document(document)
    key = problems.checked_key(form.get("key"))
    with problems.catching() as caught:
        submitted = Submission(context, visitor.principal, options, key, is_from_page=True).submit_document()
    if caught.problem is not None:
        return render_start(request, context, visitor, StartForm(name), caught.problem)
    return problems.see_batch(request, visitor, submitted)


def render_start(
    request: Request, context: ServerContext, visitor: Visitor, form: StartForm, problem: FormProblem | None = None
) -> Response:
    """Render the form, with a problem of the last try."""
    values = _values(context, visitor, form.pipeline)
    status = 200 if problem is None else problem.status
    return render(
        request,
        visitor,
        "submit/start.html",
        status,
        **values,
        form=form,
        problem=problem,
        key=problems.new_key(),
        max_bytes=context.settings.max_upload_bytes,
        formats=FILE_FORMATS,
    )


def _values(context: ServerContext, visitor: Visitor, wanted: str | None) -> dict[str, Any]:
    served = pipeline_choices.served_pipelines(context.database, context.settings.lease_seconds)
    name = pipeline_choices.choose(context.catalogue, wanted, served)
    tenant = visitor.principal.tenant
    return {
        "groups": pipeline_choices.group_by_task(context),
        "served": served,
        "unknown": wanted[:80] if wanted and wanted not in context.catalogue else None,
        "choice": None if name is None else pipeline_choices.describe(context.catalogue[name], served, tenant),
    }


def _example(context: ServerContext, name: str) -> bytes:
    if name not in context.catalogue:
        raise NotFound(f"there is no pipeline {name[:80]!r}; choose one of the list")
    lines = examples.example_lines(context.catalogue[name])
    if lines is None:
        raise UsageError(f"{name} has no example, because its prompt names other fields; upload rows of them")
    return lines


def _query(pipeline: str) -> str:
    return f"?{urlencode({'pipeline': pipeline[:200]})}"
