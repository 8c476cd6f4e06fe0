"""OpenAI's objects: batches, files, models and lists of them, each with fields of ours behind theirs. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from models.pipelines.pipeline import BUNDLED_PREFIX, Pipeline
from models.states import BatchStatus
from producer.batches.views import BatchView
from producer.endpoints import endpoints_of_task
from producer.endpoints.pipeline_inputs import PREFIX
from producer.uploads.files import PURPOSE_ERRORS, PURPOSE_OUTPUT, FileView
from producer.uploads.result_files import NO_FILES, ResultFiles

OWNER = "batchmill"  # of the models that ship with it
LOCAL_OWNER = "local"  # of a folder
DUPLICATE = "duplicate_custom_id"  # as OpenAI calls it


def batch_object(batch: BatchView, files: ResultFiles | None) -> dict[str, Any]:
    """A batch as OpenAI's clients read it.

    Of its counts, `failed` has all jobs without an output, which are the lines of the error file.
    """
    counts, found = batch.counts, files or NO_FILES
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint or f"{PREFIX}{batch.pipeline}",
        "model": batch.pipeline,
        "errors": _errors(batch),
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status.value,
        "output_file_id": found.output,
        "error_file_id": found.errors,
        "finalizing_at": None,
        **{name: _seconds(time) for name, time in batch.timestamps.items()},
        "request_counts": {
            "total": counts.total,
            "completed": counts.succeeded,
            "failed": counts.ended - counts.succeeded,
        },
        "metadata": batch.metadata,
        "job_counts": counts.as_dict(),
        "name": batch.name,
        "pipeline": batch.pipeline,
        "task": batch.task,
        "revision": batch.revision,
        "priority": batch.priority,
        "error_code": batch.error_code,
        "error_message": batch.error_message,
    }


def file_object(file: FileView, size_bytes: int | None) -> dict[str, Any]:
    """A file as OpenAI's clients read it.

    size_bytes: None = results that nobody has read to the end yet
    """
    return {
        "id": file.id,
        "object": "file",
        "bytes": size_bytes,
        "created_at": _seconds(file.created_at),
        "expires_at": _seconds(file.expires_at),
        "filename": file.filename,
        "purpose": PURPOSE_OUTPUT if file.purpose == PURPOSE_ERRORS else file.purpose,
        "status": "processed",
        "status_details": None,
        "lines": file.lines,
        "sha256": file.sha256,
        "batch_id": file.batch_id,
    }


def model_object(pipeline: Pipeline, created: int) -> dict[str, Any]:
    """A pipeline as OpenAI's clients read a model; a folder on the server is named by its last part alone.

    created: when the server read its catalogue, in seconds since 1970
    """
    return {
        "id": pipeline.name,
        "object": "model",
        "created": created,
        "owned_by": _owner(pipeline),
        "task": pipeline.task,
        "endpoints": endpoints_of_task(pipeline.task, pipeline.name),
        "model": pipeline.model if pipeline.folder is None or _is_bundled(pipeline) else pipeline.folder.name,
        "revision": pipeline.revision,
    }


def list_object(items: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page of a list; a client asks for the next one with the last id."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _owner(pipeline: Pipeline) -> str:
    if _is_bundled(pipeline):
        return OWNER
    organisation, _, name = pipeline.model.partition("/")
    return organisation if name and pipeline.folder is None else LOCAL_OWNER


def _is_bundled(pipeline: Pipeline) -> bool:
    return pipeline.model.startswith(BUNDLED_PREFIX)


def _errors(batch: BatchView) -> dict[str, Any] | None:
    if batch.status is not BatchStatus.FAILED:
        return None
    unnamed = {"code": batch.error_code, "line": None, "message": batch.error_message, "param": None}
    return {"object": "list", "data": [_error(error) for error in batch.input_errors or (unnamed,)]}


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    if error["line"] is None:
        return dict(error)
    shown = {**error, "message": f"line {error['line']}: {error['message']}"}
    return shown | {"code": DUPLICATE, "param": "custom_id"} if error["code"] == "duplicate_id" else shown


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())
