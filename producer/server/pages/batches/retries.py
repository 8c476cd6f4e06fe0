"""Retry jobs of a batch: all failed ones, those with some codes, or one. A page or a dialog first shows which."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, QueryParams

from models import error_catalogue
from models.errors import BatchmillError, NotFound, UsageError
from models.states import JobOutcome
from producer.advice import Door, in_door
from producer.batches import blockers
from producer.batches.actions import retry_plan
from producer.batches.actions.retry import RetrySelection
from producer.batches.actions.retry_plan import JobToRetry, RetryPlan
from producer.batches.batch_view import BatchView
from producer.batches.reading_state import find_reading_state
from producer.results import export
from producer.server.context import Context, ServerContext
from producer.server.native import shown
from producer.server.native.batches import changes, long_acts
from producer.server.native.batches.changes import Requeued
from producer.server.native.batches.long_acts import Reply
from producer.server.native.batches.reading import BatchId
from producer.server.pages.access.visitor import ActionForm, PageSubmitter, Visitor
from producer.server.pages.batches.refusals import confirm, refusal_of
from producer.server.pages.frame.rendering import see_other

router = APIRouter()

WAIT_SECONDS = 1.0  # for an act; then the page shows that it goes on
MAX_CODES = 100
MAX_CODE_CHARACTERS = 200
MAX_DEADLINE_CHARACTERS = 100
NOTHING_LEFT = "nothing was tried again, because these jobs have changed since the question was asked"
NOTHING_CHOSEN = "no error code is chosen, so there is nothing to try again; choose at least one"


@router.get("/batches/{batch_id}/retry")
def confirm_retry(request: Request, context: Context, visitor: PageSubmitter, batch_id: BatchId) -> Response:
    """Show which jobs would run again, and which a retry can't help."""
    return _confirm(request, context, visitor, batch_id, request.query_params)


def _confirm(
    request: Request,
    context: ServerContext,
    visitor: Visitor,
    batch_id: str,
    fields: QueryParams | FormData,
    error: BatchmillError | None = None,
) -> Response:
    """Ask; after a refusal with its reason, and with what the form had."""
    batch = context.get_batch(visitor.principal, batch_id)
    selection = _selection(fields)
    is_choosing = fields.get("choose") == "yes"
    chosen = selection.codes if is_choosing else None
    selection = replace(selection, codes=()) if is_choosing else selection
    job = None
    if selection.positions:
        job = retry_plan.find_job(context.database, batch_id, selection.positions[0])
        if job is None:
            raise NotFound(f"{batch_id} has no job at position {selection.positions[0]:,}")
    values: dict[str, Any] = {
        "batch": batch,
        "plan": retry_plan.plan_retry(context.database, batch, selection),
        "job": job,
        "explanation": error_catalogue.explain(job.code) if job is not None else None,
        "reading": find_reading_state(context.database, batch),
        "deadline": _deadline(fields),
        "ticked": chosen,
        "blockers": _blockers(context, visitor, batch),
    }
    refusal = None if error is None else refusal_of(error, batch, advice=_advice(values["plan"], job))
    return confirm(request, visitor, "batches/_retry.html", "Retry jobs", refusal, values)


def _advice(plan: RetryPlan, job: JobToRetry | None) -> str | None:
    """What to say in place of the error's message where nothing is left to try again, which the page explains."""
    has_jobs = job.can_retry if job is not None else bool(plan.jobs)
    return None if has_jobs or not plan.batch.status.has_ended else NOTHING_LEFT


@router.post("/batches/{batch_id}/retry")
async def retry(
    request: Request, context: Context, visitor: PageSubmitter, form: ActionForm, batch_id: BatchId
) -> Response:
    """Run jobs again, and show the batch."""
    selection = _selection(form)

    def show(requeued: Requeued) -> Response:
        jobs = requeued.result.jobs
        sentences = [f"{jobs:,} {'job runs' if jobs == 1 else 'jobs run'} again."]
        texts = [in_door(text, Door.PAGE) for text in (requeued.warning, requeued.result.advice) if text]
        sentences += [f"{text[:1].upper()}{text[1:]}." for text in texts]
        return see_other(request, visitor, _address(batch_id, selection), " ".join(sentences))

    def show_reopened() -> Response | None:
        # Until the batch is open again, the retry may be refused as a whole.
        if context.get_batch(visitor.principal, batch_id).status.has_ended:
            return None
        return see_other(request, visitor, _address(batch_id, selection), "The batch runs again.")

    try:
        if form.get("choose") == "yes" and not selection.codes:
            raise UsageError(NOTHING_CHOSEN)
        act = changes.retry_act(context, visitor.principal, batch_id, selection, _deadline(form) or None)
        return await long_acts.perform(act, Reply(show, show_reopened, WAIT_SECONDS))
    except BatchmillError as error:
        return await run_in_threadpool(_confirm, request, context, visitor, batch_id, form, error)


def _deadline(fields: QueryParams | FormData) -> str:
    return str(fields.get("deadline") or "").strip()[:MAX_DEADLINE_CHARACTERS]


def _blockers(context: ServerContext, visitor: Visitor, batch: BatchView) -> list[dict[str, str]]:
    """Why jobs that run again would wait until somebody acts."""
    settings = context.settings
    found = blockers.foresee_blockers(context.database, batch, settings.lease_seconds, settings.home_path)
    return shown.blocker_objects(found, batch.pipeline, visitor.principal.tenant)


def _selection(values: QueryParams | FormData) -> RetrySelection:
    """Read which jobs are meant; raises UsageError."""
    outcomes = export.parse_statuses(_texts(values, "outcome") or [JobOutcome.FAILED])
    if JobOutcome.SUCCEEDED in outcomes:
        raise UsageError("a retry takes jobs with the outcome failed, cancelled or expired")
    positions = _texts(values, "position")
    if any(not (text.isascii() and text.isdigit()) for text in positions):
        raise UsageError("a position is the number of a job among the inputs, from 0")
    return RetrySelection(outcomes, tuple(_texts(values, "code")), tuple(int(text[:20]) for text in positions[:1]))


def _texts(values: QueryParams | FormData, name: str) -> Sequence[str]:
    texts = [value.strip()[:MAX_CODE_CHARACTERS] for value in values.getlist(name) if isinstance(value, str)]
    return list(dict.fromkeys(filter(None, texts)))[:MAX_CODES]


def _address(batch_id: str, selection: RetrySelection) -> str:
    rows = f"/rows/{selection.positions[0]}" if selection.positions else ""
    return f"/batches/{batch_id}{rows}"
