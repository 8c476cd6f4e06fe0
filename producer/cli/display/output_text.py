"""Outputs in a few words for a table, by the structure of the output rather than by task."""

from collections.abc import Sequence
from typing import Any

from models import vectors
from models.privacy import terminal
from producer.results.result_row import ResultRow

MAX_ITEMS = 3  # items shown of a list of labels or words
SHOWN_NUMBERS = 2  # of a vector
TEXT_KEYS = ("generated_text", "summary_text", "translation_text")


def format_outcome(row: ResultRow) -> str:
    """Return the output, such as `POSITIVE 0.9998` or `Sarah PER, London LOC`, else as JSON; or the error code."""
    if row.vector is not None:
        return format_vector(row.vector)
    if row.error_code is not None or row.output is None:
        return f"{row.status.value}: {row.error_code or ''}".rstrip(": ")
    return format_output(row.output)


def format_input(row: ResultRow) -> str:
    """Return the values of the input's fields in one line."""
    return " | ".join(_format_field(value) for value in row.input.values())


def format_vector(vector: bytes) -> str:
    """Return the first numbers of a vector and their count, such as `[0.0412, -0.0931, … 384 numbers]`."""
    first = vectors.to_numbers(vector[: SHOWN_NUMBERS * vectors.NUMBER_BYTES])
    return f"[{''.join(f'{number:.4f}, ' for number in first)}… {vectors.dimensions(vector):,} numbers]"


def format_output(value: Any) -> str:
    """Return an output in a few words."""
    if isinstance(value, dict):
        return _format_object(value)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return _format_list(value)
    return _format_numbers(value) or terminal.compact_json(value)


def _format_numbers(value: Any) -> str | None:
    """Return the first numbers of nested lists with the lengths of the lists; None for anything else."""
    lengths = []
    while isinstance(value, list) and value:
        lengths.append(len(value))
        innermost, value = value, value[0]
    if not lengths or not isinstance(value, float):
        return None
    first = "".join(f"{number:.4f}, " for number in innermost[:SHOWN_NUMBERS])
    return f"{'[' * len(lengths)}{first}… {' × '.join(f'{length:,}' for length in lengths)} numbers{']' * len(lengths)}"  # noqa: RUF001


def _format_object(value: dict[str, Any]) -> str:
    if {"label", "score"} == set(value):
        return f"{value['label']} {value['score']:.4f}"
    if {"score"} == set(value):
        return f"{value['score']:.4f}"
    if {"answer", "score"} <= set(value):
        return f"{value['answer'] or '(no answer)'} {value['score']:.4f}"
    if {"labels", "scores"} <= set(value):
        pairs = zip(value["labels"][:MAX_ITEMS], value["scores"], strict=False)
        return ", ".join(f"{label} {score:.4f}" for label, score in pairs)
    return terminal.compact_json(value)


def _format_list(values: Sequence[dict[str, Any]]) -> str:
    first = values[0]
    if {"index", "score"} <= set(first):
        return ", ".join(f"{item['index']}: {item['score']:.4f}" for item in values[:MAX_ITEMS])
    if "token_str" in first:
        return ", ".join(f"{item['token_str'].strip()} {item['score']:.4f}" for item in values[:MAX_ITEMS])
    if "entity_group" in first or "entity" in first:
        return ", ".join(f"{item['word']} {item.get('entity_group') or item['entity']}" for item in values)
    for name in TEXT_KEYS:
        if name in first:
            return " / ".join(_message_text(item[name]) for item in values)
    if {"label", "score"} == set(first) or "answer" in first:
        return ", ".join(_format_object(item) for item in values[:MAX_ITEMS])
    return terminal.compact_json(values)


def _message_text(value: Any) -> str:
    """Return a text, or the last message of a chat."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        return str(value[-1].get("content", ""))
    return str(value)


def _format_field(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item.get("content", item) if isinstance(item, dict) else item) for item in value)
    return str(value)
