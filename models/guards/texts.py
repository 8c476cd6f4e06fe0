"""The texts of a document: what guards read in an input or an output, and where redacted texts go back to."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

CHAT_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def collect_texts(document: Any, label_fields: Collection[str] = ()) -> list[str]:
    """Return every string value of a JSON document, in order.

    Keys are no texts, nor are the roles of a chat's messages. The strings of `label_fields` are none either.
    """
    texts = []
    values = [document]
    while values:  # no recursion: a document may be nested deeper than Python's stack
        value = values.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            values.extend([value[key] for key in _keys(value, label_fields)])
        elif isinstance(value, list):
            values.extend(reversed(value))
    return texts


def replace_texts(document: Any, texts: Iterable[str], label_fields: Collection[str] = ()) -> Any:
    """Return a copy of a document with other texts, in the order of `collect_texts`.

    Raises ValueError unless there are as many as it has.
    """
    root = [document]
    remaining = iter(texts)
    places: list[tuple[Any, Any]] = [(root, 0)]
    while places:
        holder, key = places.pop()
        value = holder[key]
        if isinstance(value, str):
            text = next(remaining, None)
            if text is None:
                raise ValueError("the document has more texts than were given")
            holder[key] = text
        elif isinstance(value, dict | list):
            holder[key] = value = value.copy()
            keys: Sequence[Any] = (
                _keys(value, label_fields) if isinstance(value, dict) else range(len(value) - 1, -1, -1)
            )
            places.extend([(value, key) for key in keys])
    if next(remaining, None) is not None:
        raise ValueError("the document has fewer texts than were given")
    return root[0]


def _keys(document: dict[str, Any], label_fields: Collection[str]) -> list[str]:
    """Keys of the values to read, the last one first."""
    return [key for key in reversed(document) if not _is_name(key, document[key], label_fields)]


def _is_name(key: str, value: Any, label_fields: Collection[str]) -> bool:
    if key == "role":  # a field of any other content is a text, though it is called so
        return isinstance(value, str) and value in CHAT_ROLES
    return key in label_fields and isinstance(value, str)
