"""`/v1/pipelines/NAME`: the body is an input of the pipeline's task, and the response's body is its output."""

from collections.abc import Mapping
from typing import Any

from producer.endpoints.answer import Answer
from producer.endpoints.endpoint import MODEL, Endpoint, Settings, invalid

PREFIX = "/v1/pipelines/"
PARAMETERS = "parameters"
MAX_NAME_CHARACTERS = 200


def find_endpoint(path: str) -> Endpoint | None:
    """Return the endpoint of one pipeline; None for another path."""
    name = path.removeprefix(PREFIX)
    if not path.startswith(PREFIX) or not 0 < len(name) <= MAX_NAME_CHARACTERS or "/" in name:
        return None
    return Endpoint(
        path=path,
        tasks=(),
        input_keys=None,
        read_input=_read_input,
        read_settings=_read_settings,
        write_body=_write_body,
        pipeline=name,
    )


def _read_input(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in (MODEL, PARAMETERS)}


def _read_settings(settings: Mapping[str, Any]) -> Settings:
    parameters = settings.get(PARAMETERS, {})
    if not isinstance(parameters, dict):
        raise invalid(PARAMETERS, "has parameters that are no object; write them by name")
    return Settings(dict(parameters), {})


def _write_body(answer: Answer) -> str:
    return answer.output_text
