"""`GET /api/tasks…`: the tasks, and the explanation of one."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from models.errors import NotFound, UsageError
from producer.catalogue import task_objects
from producer.server.access import Reader
from producer.server.context import Context
from producer.server.native import responses
from producer.server.native.offered import objects

router = APIRouter(tags=["tasks"])


@router.get("/tasks", summary="List tasks", response_model=objects.TaskList)
def list_tasks(_principal: Reader) -> Response:
    """List the tasks, those of installed packages and of batchmill.toml among them."""
    return responses.list_response(list(map(task_objects.task_object, task_objects.list_tasks())))


@router.get("/tasks/{name}", summary="Explain a task", response_model=objects.TaskWithLimits)
def explain_task(
    context: Context, _principal: Reader, name: Annotated[str, Path(max_length=200, examples=["sentiment-analysis"])]
) -> Response:
    """Explain a task: its inputs, parameters, output and limits, with an example."""
    try:
        spec = task_objects.find_task(name)
    except UsageError as error:
        raise NotFound(str(error)) from None
    limits = task_objects.limits_in_force(spec, context.catalogue)
    return responses.json_response(task_objects.task_object(spec) | {"limits": limits})
