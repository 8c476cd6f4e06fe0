"""OpenAI's endpoints as lines of a batch name them: each maps a request to a task's input, and an answer to a response.

All of it is pure. One module has one endpoint, in both directions.
"""

from collections.abc import Mapping

from producer.endpoints import chat_completions, completions, embeddings, moderations, pipeline_inputs
from producer.endpoints.answer import Answer
from producer.endpoints.endpoint import BodyError, Endpoint

__all__ = ["ENDPOINTS", "Answer", "BodyError", "Endpoint", "endpoints_of_task", "find_endpoint"]

NAMED_ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (embeddings.ENDPOINT, moderations.ENDPOINT, chat_completions.ENDPOINT, completions.ENDPOINT)
}
ENDPOINTS = (*NAMED_ENDPOINTS, f"{pipeline_inputs.PREFIX}NAME")


def find_endpoint(path: str) -> Endpoint | None:
    """Return the endpoint of a path such as `/v1/embeddings` or `/v1/pipelines/sentiment`; None if there is none."""
    return NAMED_ENDPOINTS.get(path) or pipeline_inputs.find_endpoint(path)


def endpoints_of_task(task: str, pipeline: str) -> list[str]:
    """Return the paths of the endpoints that a pipeline of a task answers."""
    named = [endpoint.path for endpoint in NAMED_ENDPOINTS.values() if endpoint.takes_task(task)]
    return [*named, f"{pipeline_inputs.PREFIX}{pipeline}"]
