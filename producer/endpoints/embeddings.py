"""`/v1/embeddings`: a text gets a vector."""

import base64
from collections.abc import Mapping
from typing import Any

from models import vectors
from models.documents import from_json
from models.tasks.feature_extraction import FEATURE_EXTRACTION, NO_POOLING
from producer.endpoints.answer import Answer, quote
from producer.endpoints.endpoint import MODEL, Endpoint, Settings, invalid, read_single_text, reject_rest

ENCODING_FORMAT, BASE64, FLOAT = "encoding_format", "base64", "float"


def _read_input(body: Mapping[str, Any]) -> str:
    return read_single_text("input", body.get("input"))


def _read_settings(settings: Mapping[str, Any]) -> Settings:
    rest = dict(settings)
    encoding = rest.pop(ENCODING_FORMAT, FLOAT)
    if encoding not in (FLOAT, BASE64):
        raise invalid(ENCODING_FORMAT, "has an unknown encoding_format; use float or base64")
    parameters = {"dimensions": rest.pop("dimensions")} if "dimensions" in rest else {}
    reject_rest(rest)
    return Settings(parameters, {} if encoding == FLOAT else {ENCODING_FORMAT: encoding})


def _complete_parameters(of_pipeline: Mapping[str, Any], of_lines: Mapping[str, Any]) -> dict[str, Any]:
    if of_pipeline.get("pooling") == NO_POOLING:
        raise invalid(MODEL, "names a pipeline that gives a vector for each token; use its own url, /v1/pipelines/NAME")
    return dict(of_lines)


def _write_body(answer: Answer) -> str:
    embedding = answer.output_text
    if answer.options.get(ENCODING_FORMAT) == BASE64:
        # As bytes, float32 and little-endian, which is how OpenAI's clients read them.
        vector = answer.vector if answer.vector is not None else vectors.from_numbers(from_json(embedding))
        embedding = f'"{base64.b64encode(vector).decode("ascii")}"'
    return (
        f'{{"object": "list", "data": [{{"object": "embedding", "index": 0, "embedding": {embedding}}}], '
        f'"model": {quote(answer.pipeline)}{_usage_part(answer.input_tokens)}}}'
    )


def _usage_part(tokens: int | None) -> str:
    """The member `usage` after others; nothing if the tokens were not counted."""
    return "" if tokens is None else f', "usage": {{"prompt_tokens": {tokens}, "total_tokens": {tokens}}}'


ENDPOINT = Endpoint(
    path="/v1/embeddings",
    tasks=(FEATURE_EXTRACTION.name,),
    input_keys=frozenset({"input"}),
    read_input=_read_input,
    read_settings=_read_settings,
    write_body=_write_body,
    complete_parameters=_complete_parameters,
)
