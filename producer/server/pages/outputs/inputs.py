"""An input as it is shown: its fields as texts. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producer.server.pages.outputs.cut_json import Unreadable, read_cut_json, read_json


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an input; `name` is empty if the whole input can't be read, and stands there as it is."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ShownInput:
    """An input with its fields, and as the document that outputs refer to."""

    fields: tuple[Field, ...]
    document: Mapping[str, Any]


def read_input(text: str, length: int) -> ShownInput:
    """Return an input as it is shown.

    text: its JSON, which may be cut
    length: of the whole JSON
    """
    try:
        document = read_json(text) if length <= len(text) else read_cut_json(text)
    except Unreadable:
        return ShownInput((Field("", text),), {})
    if not isinstance(document, dict):
        return ShownInput((Field("", _write(document)),), {})
    return ShownInput(tuple(Field(str(name), _write(value)) for name, value in document.items()), document)


def pretty(text: str) -> str:
    """Return JSON on several lines; a text that can't be read stays as it is."""
    try:
        return json.dumps(read_json(text), ensure_ascii=False, indent=2)
    except (Unreadable, RecursionError):
        return text


def _write(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(item, dict) and "content" in item for item in value):
        return "\n".join(f"{item.get('role', '')}: {item['content']}" for item in value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False)
