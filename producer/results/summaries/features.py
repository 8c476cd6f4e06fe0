"""What can be counted of one output, whatever its task: labels, a score, entities, or the length of its text. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.documents import to_json
from producer.readers.results.labels import find_labels, number_or_none

TEXT_KEYS = ("generated_text", "summary_text", "translation_text", "answer", "text")
ENTITY_KEYS = ("entity_group", "entity")


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one output; None or empty for what it lacks.

    labels: its best label, or those of all heads or entities
    length: of its text, in characters
    entities: their number, if it is a list of entities
    vector_length: how many numbers it has, if it is a list of numbers
    """

    labels: tuple[str, ...] = ()
    score: float | None = None
    length: int | None = None
    words: int | None = None
    entities: int | None = None
    vector_length: int | None = None


def features_of(output: Any) -> Features:
    """Return what can be counted of an output."""
    if isinstance(output, Sequence) and not isinstance(output, str):
        return _features_of_list(output)
    if (number := _score(output)) is not None:
        return Features(score=number)
    written = _text_of(output)
    score = _score(output.get("score")) if isinstance(output, Mapping) else None
    if written is not None:
        return Features(score=score, length=len(written), words=len(written.split()))
    pairs = list(find_labels(output))
    labels = tuple(label for label, _ in pairs if label is not None) or _other_labels(output)
    scores = [number for _, value in pairs if (number := _score(value)) is not None]
    if labels or scores:
        return Features(labels, scores[0] if scores else score)
    return Features(score=score, length=len(to_json_or_text(output)))


def to_json_or_text(output: Any) -> str:
    """Return an output as JSON, also one with numbers that JSON lacks."""
    try:
        return to_json(output)
    except ValueError:
        return str(output)


def _features_of_list(output: Sequence[Any]) -> Features:
    if not output:
        return Features(entities=0)
    first = output[0]
    if isinstance(first, Mapping) and any(key in first for key in ENTITY_KEYS):
        names = [_entity_name(entity) for entity in output if isinstance(entity, Mapping)]
        scores = [number for entity in output if (number := _score(_get(entity, "score"))) is not None]
        mean = sum(scores) / len(scores) if scores else None
        return Features(tuple(name for name in names if name), _score(mean), entities=len(output))
    if all(isinstance(item, int | float) and not isinstance(item, bool) for item in output):
        return Features(vector_length=len(output))
    return features_of(first)  # the best of several answers


def _other_labels(output: Any) -> tuple[str, ...]:
    """The label of an object if it is a number, true or false, or the word that fills a mask."""
    label, word = _get(output, "label"), _get(output, "token_str")
    if isinstance(label, int | float):
        return (to_json_or_text(label),)
    return (word,) if isinstance(word, str) else ()


def _entity_name(entity: Mapping[str, Any]) -> str:
    name = str(entity.get("entity_group") or entity.get("entity") or "")
    return name[2:] if name.startswith(("B-", "I-")) else name


def _text_of(output: Any) -> str | None:
    if isinstance(output, str):
        return output
    if not isinstance(output, Mapping) or "label" in output:
        return None
    value = next((output[key] for key in TEXT_KEYS if key in output), None)
    if isinstance(value, Sequence) and not isinstance(value, str) and value:  # messages: the last one is the answer
        value = _get(value[-1], "content")
    return value if isinstance(value, str) else None


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _score(value: Any) -> float | None:
    number = number_or_none(value)
    return number if number is not None and math.isfinite(number) else None
