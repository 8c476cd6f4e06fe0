"""`/pipelines`: the catalogue, and `/pipelines/{name}`: a pipeline with the models that answered."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from models.errors import NotFound
from producer.activity import model_versions, throughput
from producer.activity.model_versions import NamedPipeline
from producer.activity.throughput import PipelineActivity
from producer.batches import blockers
from producer.server.context import Context, ServerContext
from producer.server.native import shown
from producer.server.native.offered import pipelines as offered
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render
from producer.tenants.principal import Principal
from producer.workers import backlog, workers

router = APIRouter()

MAX_TEXT = 200

# Fields of an entry that stand elsewhere on its page, or that nobody needs to read.
SHOWN_APART = {
    "object", "name", "task", "model", "description", "inputs", "parameters", "guards", "prompt", "system", "workers",
    "examples", "backlog", "limits", "licence",
}  # fmt: skip


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


@router.get("/pipelines/{name}")
def show_pipeline(
    request: Request, context: Context, visitor: PageReader, name: Annotated[str, Path(max_length=200)]
) -> Response:
    """Show one pipeline; raises NotFound if neither the catalogue nor a batch names it."""
    tenant = visitor.principal.tenant
    versions = model_versions.list_versions(context.database, name, tenant)
    waiting = backlog.count_backlogs(context.database, tenant).get(name)
    entry = _describe(context, visitor.principal, name)
    if entry is None and not versions and waiting is None:
        raise NotFound(f"there is no pipeline {name[:80]!r}; see the list of pipelines")
    activities = throughput.read_throughput(context.database, tenant=tenant).pipelines
    serving = [
        worker
        for worker in workers.list_workers(context.database, context.settings.lease_seconds)
        if worker.serves(name)
    ]
    return render(
        request,
        visitor,
        "operations/pipeline.html",
        name=name,
        entry=entry,
        settings=_settings_of(entry or {}),
        versions=[(use, shown.hide_folders(use.key._asdict(), tenant)) for use in versions],
        waiting=waiting,
        activity=next((activity for activity in activities if activity.pipeline == name), None),
        workers=serving,
        alive=workers.count_serving(serving)[name],
        load_failures=[item for item in blockers.list_load_failures(context.database) if item.pipeline == name],
        commands=_commands(name),
    )


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


def _describe(context: ServerContext, principal: Principal, name: str) -> Mapping[str, Any] | None:
    if name not in context.catalogue:
        return None
    pipeline = context.catalogue[name]
    document = offered.describe(context, principal, [pipeline], with_backlog=False)[0]
    document["inputs"] = [
        {"name": field.name, "required": field.required, "help": field.help} for field in pipeline.spec.fields
    ]
    return document


def _settings_of(entry: Mapping[str, Any]) -> dict[str, str]:
    """The other fields of an entry that are set, as text."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in entry.items()
        if name not in SHOWN_APART and value not in (None, {}, [], "")
    }


def _commands(name: str) -> dict[str, str]:
    """How to submit a file in a terminal, in Python and over HTTP, ready to copy."""
    return {
        "Terminal": f"batchmill submit rows.jsonl --pipeline {shlex.quote(name)}",
        "Python": (
            "from batchmill import Client\n\n"
            "with Client() as client:\n"
            f'    batch = client.submit({json.dumps(name, ensure_ascii=False)}, ["a text"])\n'
            "    batch.wait()\n"
            "    for row in batch.results():\n"
            "        print(row.position, row.output)"
        ),
        "HTTP": (
            'curl -sf $URL/api/batches -H "Authorization: Bearer $KEY" --json '
            + shlex.quote(json.dumps({"pipeline": name, "inputs": ["a text"]}, ensure_ascii=False))
        ),
    }
