"""`/pipelines`: the catalogue, and the pipelines that batches name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from producer.activity import model_versions, throughput
from producer.activity.model_versions import NamedPipeline
from producer.activity.throughput import PipelineActivity
from producer.batches import blockers
from producer.server.context import Context, ServerContext
from producer.server.native.offered import pipelines as offered
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render
from producer.tenants.principal import Principal

router = APIRouter()

MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class PipelineRow:
    """A pipeline in the list.

    entry: its document; None if only batches name it
    """

    name: str
    entry: Mapping[str, Any] | None
    workers: int
    unanswered: int
    activity: PipelineActivity | None
    named: NamedPipeline | None
    can_load: bool

    @property
    def is_used(self) -> bool:
        """Whether batches name it, or workers serve it."""
        return bool(self.workers or self.named or self.unanswered)


@router.get("/pipelines")
def show_pipelines(request: Request, context: Context, visitor: PageReader) -> Response:
    """Show the catalogue."""
    searched = request.query_params.get("q", "").strip()[:MAX_TEXT]
    values = read_pipelines(context, visitor.principal, searched)
    return render(request, visitor, "operations/pipelines.html", **values)


def read_pipelines(context: ServerContext, principal: Principal, searched: str) -> dict[str, Any]:
    """Return what the page shows: the pipelines with a text in their name, task, model or description."""
    found = [row for row in _list_rows(context, principal) if _matches(row, searched.lower())]
    return {
        "used": [row for row in found if row.is_used],
        "others": [row for row in found if not row.is_used],
        "searched": searched,
        "unusable": context.catalogue.unusable if principal.tenant is None else {},
    }


def _list_rows(context: ServerContext, principal: Principal) -> list[PipelineRow]:
    documents = offered.describe(context, principal, list(context.catalogue.values()), with_backlog=True)
    entries = {document["name"]: document for document in documents}
    named = model_versions.find_named_pipelines(context.database, principal.tenant)
    counted = throughput.read_throughput(context.database, tenant=principal.tenant)
    activities = {activity.pipeline: activity for activity in counted.pipelines}
    failing = {failure.pipeline for failure in blockers.list_load_failures(context.database)}
    return [
        PipelineRow(
            name,
            entries.get(name),
            entries[name]["workers"] if name in entries else 0,
            entries[name]["backlog"]["unanswered_jobs"] if name in entries else 0,
            activities.get(name),
            named.get(name),
            name not in failing,
        )
        for name in (*entries, *sorted(named.keys() - entries.keys()))
    ]


def _matches(row: PipelineRow, searched: str) -> bool:
    entry = row.entry or {}
    texts = (row.name, entry.get("task"), entry.get("model"), entry.get("description"))
    return any(searched in str(text).lower() for text in texts if text)
