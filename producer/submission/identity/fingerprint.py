"""The fingerprint of a request is a hash of all but its rows; it tells a repeat from another request with its key."""

import hashlib
from typing import Any

from sqlalchemy import Row

from models.documents import to_json
from models.pipelines.options.prompt_template import split_parameters
from producer.submission.request import SubmitRequest


def request_fingerprint(request: SubmitRequest) -> str:
    """A hash of the request, except its rows."""
    deadline = request.deadline and request.deadline.comparable_values
    failures = request.max_failures and [request.max_failures.count, request.max_failures.share]
    values = [*_comparable_values(request.pipeline.name, request).values(), request.keep_invalid, deadline, failures]
    # Left out otherwise, so that requests from before these options keep their fingerprint.
    if request.reuse:
        values.append("reuse")
    if request.source_batch_id is not None:
        values.append(["from", request.source_batch_id])
    if request.webhook_url is not None:
        values.append(["webhook", request.webhook_url])
    return hashlib.sha256(to_json(values).encode()).hexdigest()


def _comparable_values(pipeline_name: str, fields: SubmitRequest | Row[Any]) -> dict[str, Any]:
    """The fields that a request and its batch's row have both, without the operator's templates."""
    return {
        "pipeline": pipeline_name,
        "parameters": split_parameters(fields.parameters)[0],
        "name": fields.name,
        "metadata": fields.metadata,
        "priority": fields.priority,
    }


def describe_difference(request: SubmitRequest, row: Row[Any]) -> str:
    """The message of a conflict, which names the fields that differ from those of the batch with the same key."""
    old, new = _comparable_values(row.pipeline, row), _comparable_values(request.pipeline.name, request)
    differing = [name for name, value in new.items() if old[name] != value]
    difference = " and ".join(differing) or (
        "on-invalid, deadline, max-failures, reuse, source batch, webhook or way (SQL or HTTP)"
    )
    other = "other" if difference.startswith(("parameters", "metadata")) else "another"
    return (
        f"the idempotency key {request.idempotency_key!r} belongs to {row.id}, which was submitted with {other} "
        f"{difference}; use another key, or the same request"
    )
