"""The parts of the OpenAPI document that describe bodies of many types, and options in a query string."""

from typing import Any

from producer.server.native.batches.submission.submission_options import BODY_ONLY, LISTS, OBJECTS, SubmissionOptions

LINES_EXAMPLE = '{"text": "a fine day"}\n{"text": "a bad day"}\n'
CSV_EXAMPLE = "id,text\n7,a fine day\n8,a bad day\n"
BINARY = {"schema": {"type": "string", "format": "binary"}}


def _query_parameters() -> list[dict[str, Any]]:
    """The options as parameters of the query, which a body of rows needs."""
    parameters = []
    for name, field in SubmissionOptions.model_fields.items():
        if name in BODY_ONLY:
            continue
        kind = "As JSON. " if name in OBJECTS else "May be repeated. " if name in LISTS else ""
        schema: dict[str, Any] = {"type": "array", "items": {"type": "string"}} if name in LISTS else {"type": "string"}
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": f"With a body of rows. {kind}{field.description}",
                "schema": schema,
            }
        )
    return parameters


def _schema() -> dict[str, Any]:
    schema = SubmissionOptions.model_json_schema()
    schema.pop("example", None)
    return schema


ROW_BODIES: dict[str, Any] = {
    "application/x-ndjson": {"schema": {"type": "string"}, "example": LINES_EXAMPLE},
    "text/csv": {"schema": {"type": "string"}, "example": CSV_EXAMPLE},
    "text/tab-separated-values": {"schema": {"type": "string"}},
    "text/plain": {"schema": {"type": "string"}, "example": "a fine day\na bad day\n"},
    "application/vnd.apache.parquet": BINARY,
    "application/octet-stream": BINARY,
}
JSON_BODY = {
    "application/json": {
        "schema": _schema(),
        "example": {"pipeline": "sample-sentiment-analysis", "inputs": ["a fine day", {"id": 7, "text": "a bad day"}]},
    }
}
FORM_BODY = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {
                "file": {"type": "string", "format": "binary", "description": "Its name shows its format."},
                "pipeline": {"type": "string", "description": "The other options are fields too."},
            },
            "required": ["file", "pipeline"],
        }
    }
}

SUBMIT_DOCS: dict[str, Any] = {
    "openapi_extra": {
        "parameters": _query_parameters(),
        "requestBody": {"required": True, "content": {**JSON_BODY, **ROW_BODIES, **FORM_BODY}},
    },
    "responses": {
        200: {"description": "The batch was submitted before, under this idempotency key."},
        202: {"description": "Its rows are still being read."},
    },
}
DRY_RUN_DOCS: dict[str, Any] = {
    "openapi_extra": {
        "parameters": _query_parameters(),
        "requestBody": {"required": True, "content": {**JSON_BODY, **ROW_BODIES}},
    }
}
