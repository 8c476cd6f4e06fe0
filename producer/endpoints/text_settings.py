"""The settings of a generated text, which both kinds of completions share."""

from collections.abc import Mapping
from typing import Any

from models.tasks.generation.decoding import SAMPLING_PARAMETERS
from producer.endpoints.answer import Answer, quote
from producer.endpoints.endpoint import BodyError, Settings, invalid, take_constants

# What a request may leave as it is, and not change.
CONSTANTS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stream": (False,),
    "stream_options": (),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "logit_bias": ({},),
}
COPIED = ("top_p", "seed")
SAMPLED_ONLY = ("temperature", "top_p", "seed")


def take_generation_settings(rest: dict[str, Any], *, limit_keys: tuple[str, ...]) -> Settings:
    """Take out the settings of sampling, length and end; raises BodyError.

    limit_keys: the names of the most new tokens, of which a request has one
    """
    take_constants(rest, CONSTANTS)
    parameters = {key: rest.pop(key) for key in COPIED if key in rest}
    limits = {key: rest.pop(key) for key in limit_keys if key in rest}
    if len(set(map(repr, limits.values()))) > 1:
        raise invalid(limit_keys[0], f"has different values of {' and '.join(limits)}; give one of them")
    for limit in limits.values():
        parameters["max_new_tokens"] = limit
    if "temperature" in rest:
        parameters |= _read_temperature(rest.pop("temperature"))
    if parameters.get("do_sample") is False:
        for key in SAMPLED_ONLY:
            parameters.pop(key, None)  # they have no effect then, for OpenAI as for us
    if "stop" in rest:
        parameters["stop_strings"] = _read_stop(rest.pop("stop"))
    return Settings({"return_full_text": False} | parameters, {})


def complete_parameters(of_pipeline: Mapping[str, Any], of_lines: Mapping[str, Any]) -> dict[str, Any]:
    """The lines' parameters, with what takes back those of the pipeline that contradict them."""
    completed = dict(of_lines)
    if of_pipeline.get("num_return_sequences") is not None:
        completed["num_return_sequences"] = 1  # a response has one choice
    if of_lines.get("do_sample") is False:
        completed |= {name: None for name in SAMPLING_PARAMETERS if of_pipeline.get(name) is not None}
    return completed


def _read_temperature(value: object) -> dict[str, Any]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid("temperature", "has a temperature that is no number; use 0 to 2")
    return {"do_sample": False} if value == 0 else {"do_sample": True, "temperature": float(value)}


def _read_stop(value: object) -> list[str]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not stops or not all(isinstance(stop, str) and stop for stop in stops):
        raise BodyError("invalid_parameter", "has a stop that is no text; give a text or a list of texts", "body.stop")
    return stops


def end_of_text(text: str, answer: Answer) -> tuple[str, str]:
    """Return a text without the stop string that ended it, and its `finish_reason` as JSON; null = not known."""
    if answer.parameters.get("return_full_text"):  # a prompt may have a stop string, which ends nothing
        return text, _json_or_null(answer.finish_reason)
    stop_strings = answer.parameters.get("stop_strings")
    stops = [stop_strings] if isinstance(stop_strings, str) else stop_strings or ()
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(ends)], '"stop"') if ends else (text, _json_or_null(answer.finish_reason))


def usage_part(answer: Answer) -> str:
    """The member `usage` after others; nothing if the tokens were not counted."""
    prompt, completion = answer.input_tokens, answer.output_tokens
    if prompt is None or completion is None:
        return ""
    return (
        f', "usage": {{"prompt_tokens": {prompt}, "completion_tokens": {completion}, '
        f'"total_tokens": {prompt + completion}}}'
    )


def _json_or_null(text: str | None) -> str:
    return "null" if text is None else quote(text)
