"""`/v1/chat/completions`: a language model answers a conversation."""

from collections.abc import Mapping
from typing import Any

from models.documents import from_json
from models.tasks.text_generation import TEXT_GENERATION
from producer.endpoints.answer import Answer, quote
from producer.endpoints.endpoint import (
    MAX_QUOTED_CHARACTERS,
    BodyError,
    Endpoint,
    Settings,
    invalid,
    missing,
    reject_rest,
    take_constants,
)
from producer.endpoints.text_settings import complete_parameters, end_of_text, take_generation_settings, usage_part

CONSTANTS: dict[str, tuple[Any, ...]] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
}
KEYS = ("role", "content")  # of a message
SCHEMA_OF_ANY_OBJECT = {"type": "object"}


def _read_input(body: Mapping[str, Any]) -> list[Any]:
    messages = body.get("messages")
    if messages is None:
        raise missing("messages", "has no body.messages; give it the conversation")
    if not isinstance(messages, list):
        raise invalid("messages", "has no list in body.messages")
    return [_read_message(message, f"messages[{place}]") for place, message in enumerate(messages)]


def _read_message(message: object, path: str) -> object:
    if not isinstance(message, dict):
        return message  # the task's own check says what is wrong
    # An answer that is given back as a message has `refusal: null` and `annotations: []`, which say nothing.
    kept = {key: value for key, value in message.items() if value is not None and (key in KEYS or value != [])}
    for key in KEYS:
        if key not in kept:
            raise missing(f"{path}.{key}", f"has no body.{path}.{key}; a message has a role and a content")
    if (other := next((key for key in kept if key not in KEYS), None)) is not None:
        key = other[:MAX_QUOTED_CHARACTERS]
        raise BodyError(
            "unsupported_parameter",
            f"has {key!r} in body.{path}; pipelines of this endpoint read role and content alone, so leave it out",
            f"body.{path}.{key}",
        )
    content = kept["content"]
    return {**kept, "content": _join_parts(content, path)} if isinstance(content, list) else kept


def _join_parts(parts: list[Any], path: str) -> str:
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise invalid(
                f"{path}.content",
                f"has a part in body.{path}.content that is no text; pipelines of this endpoint read text alone",
            )
    return "\n".join(part["text"] for part in parts)


def _read_settings(settings: Mapping[str, Any]) -> Settings:
    rest = dict(settings)
    take_constants(rest, CONSTANTS)
    read = take_generation_settings(rest, limit_keys=("max_completion_tokens", "max_tokens"))
    if (schema := _read_response_format(rest.pop("response_format", None))) is not None:
        read.parameters["output_schema"] = schema
    reject_rest(rest)
    return read


def _read_response_format(value: object) -> dict[str, Any] | None:
    kind = value.get("type") if isinstance(value, dict) else None
    if value is None or kind == "text":
        return None
    if kind == "json_object":
        return SCHEMA_OF_ANY_OBJECT
    named = value.get("json_schema") if isinstance(value, dict) and kind == "json_schema" else None
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict):
        raise invalid(
            "response_format",
            "has a response_format that is not known; use the type text, json_object, or json_schema with its schema",
        )
    return schema


def _write_body(answer: Answer) -> str:
    text = from_json(answer.output_text)[0]["generated_text"]
    if isinstance(text, list):  # the conversation, whose last message is the answer
        text = text[-1]["content"]
    text, finish_reason = end_of_text(text, answer)
    return (
        f'{{"id": {quote(f"chatcmpl-{answer.id}")}, "object": "chat.completion", "created": {answer.created_at}, '
        f'"model": {quote(answer.pipeline)}, "system_fingerprint": {quote(answer.fingerprint)}, '
        f'"choices": [{{"index": 0, "message": {{"role": "assistant", "content": {quote(text)}, "refusal": null}}, '
        f'"logprobs": null, "finish_reason": {finish_reason}}}]{usage_part(answer)}}}'
    )


ENDPOINT = Endpoint(
    path="/v1/chat/completions",
    tasks=(TEXT_GENERATION.name,),
    input_keys=frozenset({"messages"}),
    read_input=_read_input,
    read_settings=_read_settings,
    write_body=_write_body,
    complete_parameters=complete_parameters,
)
