"""`/v1/completions`: a language model continues a text."""

from collections.abc import Mapping
from typing import Any

from models.documents import from_json
from models.tasks.text_generation import TEXT_GENERATION
from producer.endpoints.answer import Answer, quote
from producer.endpoints.endpoint import Endpoint, Settings, invalid, read_single_text, reject_rest, take_constants
from producer.endpoints.text_settings import complete_parameters, end_of_text, take_generation_settings, usage_part

CONSTANTS: dict[str, tuple[Any, ...]] = {"best_of": (1,), "logprobs": (), "suffix": ("",)}


def _read_input(body: Mapping[str, Any]) -> str:
    return read_single_text("prompt", body.get("prompt"))


def _read_settings(settings: Mapping[str, Any]) -> Settings:
    rest = dict(settings)
    take_constants(rest, CONSTANTS)
    echo = rest.pop("echo", False)
    if not isinstance(echo, bool):
        raise invalid("echo", "has an echo that is neither true nor false")
    read = take_generation_settings(rest, limit_keys=("max_tokens",))
    reject_rest(rest)
    if echo:
        read.parameters["return_full_text"] = True
    return read


def _write_body(answer: Answer) -> str:
    text, finish_reason = end_of_text(from_json(answer.output_text)[0]["generated_text"], answer)
    return (
        f'{{"id": {quote(f"cmpl-{answer.id}")}, "object": "text_completion", "created": {answer.created_at}, '
        f'"model": {quote(answer.pipeline)}, "system_fingerprint": {quote(answer.fingerprint)}, '
        f'"choices": [{{"index": 0, "text": {quote(text)}, "logprobs": null, "finish_reason": {finish_reason}}}]'
        f"{usage_part(answer)}}}"
    )


ENDPOINT = Endpoint(
    path="/v1/completions",
    tasks=(TEXT_GENERATION.name,),
    input_keys=frozenset({"prompt"}),
    read_input=_read_input,
    read_settings=_read_settings,
    write_body=_write_body,
    complete_parameters=complete_parameters,
)
