"""`/pipelines/{name}`: one pipeline, what it does now, and the models that answered."""

import json
import shlex
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from models.errors import NotFound
from producer.activity import model_versions, throughput
from producer.batches import blockers
from producer.server.context import Context, ServerContext
from producer.server.native import shown
from producer.server.native.offered import pipelines as offered
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render
from producer.tenants.principal import Principal
from producer.workers import backlog, workers

router = APIRouter()

MAX_NAME = 200

# Fields of an entry that stand elsewhere on its page, or that nobody needs to read.
SHOWN_APART = {
    "object", "name", "task", "model", "description", "inputs", "parameters", "guards", "prompt", "system", "workers",
    "examples", "backlog", "limits", "licence",
}  # fmt: skip

PipelineName = Annotated[str, Path(max_length=MAX_NAME)]


@router.get("/pipelines/{name}")
def show_pipeline(request: Request, context: Context, visitor: PageReader, name: PipelineName) -> Response:
    """Show one pipeline."""
    values = read_pipeline(context, visitor.principal, name)
    entry = values["entry"]
    return render(
        request,
        visitor,
        "operations/pipeline.html",
        **values,
        settings=_settings_of(entry or {}),
        commands=_commands(name),
    )


def read_pipeline(context: ServerContext, principal: Principal, name: str) -> dict[str, Any]:
    """Return what the page follows; raises NotFound if neither the catalogue nor a batch names the pipeline."""
    database, tenant = context.database, principal.tenant
    versions = model_versions.list_versions(database, name, tenant)
    waiting = backlog.count_backlogs(database, tenant).get(name)
    entry = _describe(context, principal, name)
    if entry is None and not versions and waiting is None:
        raise NotFound(f"there is no pipeline {name[:80]!r}; see the list of pipelines")
    activities = throughput.read_throughput(database, tenant=tenant).pipelines
    known_workers = workers.list_workers(database, context.settings.lease_seconds)
    serving = [worker for worker in known_workers if worker.serves(name)]
    return {
        "name": name,
        "entry": entry,
        "versions": [(use, shown.hide_folders(use.key._asdict(), tenant)) for use in versions],
        "waiting": waiting,
        "activity": next((activity for activity in activities if activity.pipeline == name), None),
        "workers": serving,
        "alive": workers.count_serving(serving)[name],
        "load_failures": [item for item in blockers.list_load_failures(database) if item.pipeline == name],
    }


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
