"""`GET /api/pipelines…`: the catalogue, who serves it, and what waits for it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from models.errors import NotFound, UnknownPipeline
from models.pipelines.pipeline import Pipeline
from producer.catalogue import pipeline_objects
from producer.server.access import Reader
from producer.server.context import Context, ServerContext
from producer.server.native import responses, shown
from producer.server.native.offered import objects
from producer.tenants.principal import Principal, Scope
from producer.workers import backlog as waiting
from producer.workers import workers

router = APIRouter(tags=["pipelines"])

WithBacklog = Annotated[bool, Query(description="Also count the unanswered work of each pipeline.")]


@router.get("/pipelines", summary="List pipelines", response_model=objects.PipelineList)
def list_pipelines(context: Context, principal: Reader, backlog: WithBacklog = False) -> Response:
    """List the catalogue's pipelines with their task, model, parameters, limits and guards."""
    pipelines = list(context.catalogue.values())
    return responses.list_response(describe(context, principal, pipelines, with_backlog=backlog))


@router.get("/pipelines/{name}", summary="Show a pipeline", response_model=objects.Pipeline)
def show_pipeline(
    context: Context,
    principal: Reader,
    name: Annotated[str, Path(max_length=200, examples=["sample-sentiment-analysis"])],
    backlog: WithBacklog = False,
) -> Response:
    """Show one pipeline of the catalogue."""
    try:
        pipeline = context.catalogue[name]
    except UnknownPipeline as error:
        raise NotFound(str(error)) from None
    document = describe(context, principal, [pipeline], with_backlog=backlog)[0]
    # A template of the pipeline may have other inputs than its task.
    document["inputs"] = [{"name": field.name, "required": field.required} for field in pipeline.spec.fields]
    return responses.json_response(document)


def describe(
    context: ServerContext, principal: Principal, pipelines: list[Pipeline], *, with_backlog: bool
) -> list[dict[str, Any]]:
    """Return the documents of pipelines as the principal may see them."""
    is_operator = principal.tenant is None and Scope.ADMIN in principal.scopes
    served = workers.count_serving(workers.list_workers(context.database, context.settings.lease_seconds))
    waiting_jobs = waiting.count_backlogs(context.database, principal.tenant) if with_backlog else {}
    documents = []
    for pipeline in pipelines:
        document = pipeline_objects.pipeline_object(pipeline, shows_patterns=is_operator)
        document["workers"] = served[pipeline.name]
        if with_backlog:
            document["backlog"] = waiting_jobs.get(pipeline.name, waiting.EMPTY).as_dict()
        guards = {name: shown.hide_folders(guard, principal.tenant) for name, guard in document["guards"].items()}
        documents.append({**shown.hide_folders(document, principal.tenant), "guards": guards})
    return documents
