"""`/submit/files/{id}`: what was understood of a file, its dry run, and the submission."""

from dataclasses import replace
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from models.errors import IdempotencyConflict
from producer.batches import views
from producer.dry_run.file_trial import FileTrial, try_file
from producer.readers.files.source_files import FILE_FORMATS
from producer.server.context import Context, ServerContext
from producer.server.native.batches.submission import refusals
from producer.server.pages.access.visitor import ActionForm, PageSubmitter, Visitor
from producer.server.pages.frame.rendering import is_part, render, see_other
from producer.server.pages.submit import option_form, pipeline_choices, problems
from producer.server.pages.submit.check_view import CheckView
from producer.server.pages.submit.file_form import FileForm, load_form
from producer.server.pages.submit.option_form import Pairs
from producer.server.pages.submit.problems import FormProblem
from producer.uploads import files

router = APIRouter()


@router.get("/submit/files/{file_id}")
async def show_file(request: Request, context: Context, visitor: PageSubmitter, file_id: str) -> Response:
    """Show the form; its fields may be set in the address."""

    def show() -> Response:
        form = load_form(context, visitor, file_id, request.query_params.multi_items())
        return _render(request, context, visitor, form)

    return await to_thread.run_sync(show, limiter=context.dry_run_threads)


@router.post("/submit/files/{file_id}/check")
async def check_file(
    request: Request, context: Context, visitor: PageSubmitter, form: ActionForm, file_id: str
) -> Response:
    """Show the dry run of the form as it is."""

    def check() -> Response:
        loaded = load_form(context, visitor, file_id, _pairs(form))
        with problems.catching() as caught:
            trial = _try(context, visitor, loaded)
        view = CheckView.of(trial) if caught.problem is None else None
        if is_part(request):
            return render(request, visitor, "submit/_check.html", form=loaded, check=view, problem=caught.problem)
        return _render(request, context, visitor, loaded, caught.problem, view)

    return await to_thread.run_sync(check, limiter=context.dry_run_threads)


@router.get("/submit/files/{file_id}/check")
def leave_check(request: Request, context: Context, visitor: PageSubmitter, file_id: str) -> Response:
    """Lead to the form; without scripts, this address stands above a dry run."""
    file = files.get_file(context.database, file_id, visitor.principal.tenant)
    return see_other(request, visitor, f"/submit/files/{file.id}")


@router.post("/submit/files/{file_id}")
async def submit_file(
    request: Request, context: Context, visitor: PageSubmitter, form: ActionForm, file_id: str
) -> Response:
    """Submit the file; a large one is read after the response."""
    load = partial(load_form, context, visitor, file_id, _pairs(form))
    loaded = await to_thread.run_sync(load, limiter=context.dry_run_threads)
    return await to_thread.run_sync(_submit, request, context, visitor, loaded)


def _submit(request: Request, context: ServerContext, visitor: Visitor, loaded: FileForm) -> Response:
    with problems.catching() as caught:
        submitted = loaded.submission(context, visitor).submit_document()
        if not submitted.existed:
            refusals.refuse_failed(context, views.get_batch(context.database, submitted.batch_id))
    if caught.problem is None:
        return problems.see_batch(request, visitor, submitted)
    if isinstance(caught.problem.error, IdempotencyConflict):
        loaded = replace(loaded, key=problems.new_key())
    return _render(request, context, visitor, loaded, caught.problem)


def _try(context: ServerContext, visitor: Visitor, form: FileForm) -> FileTrial:
    submission = form.submission(context, visitor)
    read_request = submission.read_request
    return try_file(
        context.database, context.settings, submission.request, form.file, read_request, form.preview.row_count
    )


def _render(
    request: Request,
    context: ServerContext,
    visitor: Visitor,
    form: FileForm,
    problem: FormProblem | None = None,
    check: CheckView | None = None,
) -> Response:
    has_pipeline = form.choice is not None and problem is not None and problem.error is not None
    wrong = option_form.field_of(problem.error, form.field_names) if has_pipeline else None  # type: ignore[union-attr, arg-type]
    values: dict[str, Any] = {
        "form": form,
        "check": check,
        "problem": problem,
        "problems": {} if wrong is None or problem is None else {wrong: problem.message},
        "groups": pipeline_choices.group_by_task(context),
        "formats": FILE_FORMATS,
    }
    status = 200 if problem is None else problem.status
    return render(request, visitor, "submit/file.html", status, **values)


def _pairs(form: FormData) -> Pairs:
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
