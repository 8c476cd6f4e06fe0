"""Outputs, as far as one can be compared with another: which labels it gives, how surely, and how much it writes.

Told by an output's own shape, which each task has its own of; what has another shape is looked at no further.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TEXTS = ("generated_text", "summary_text", "translation_text")


@dataclass(frozen=True, slots=True)
class Said:
    """What one output says. `length` is in characters; `empty` where it says nothing: no entity, no text."""

    labels: tuple[str, ...] = ()
    score: float | None = None
    length: int | None = None
    empty: bool = False


NOTHING = Said(empty=True)
UNKNOWN = Said()


def said(output: Any) -> Said:
    """The first and best where there are several; of entities all, with their mean score."""
    if isinstance(output, Mapping):
        return _one(output)
    if not isinstance(output, Sequence) or isinstance(output, str):
        return UNKNOWN
    if not output:
        return NOTHING
    first = output[0]
    if isinstance(first, Mapping) and ("entity_group" in first or "entity" in first):
        return _entities(output)
    return said(first)  # with several masks, the first mask's list


def _one(output: Mapping[str, Any]) -> Said:
    if "label" in output:
        return Said(labels=(str(output["label"]),), score=_number(output.get("score")))
    if "labels" in output:
        return _ranked(output["labels"], output.get("scores"))
    if "answer" in output:
        return _written(output["answer"], _number(output.get("score")))
    for name in TEXTS:
        if name in output:
            return _written(output[name])
    return Said(score=_number(output.get("score")))


def _ranked(labels: Any, scores: Any) -> Said:
    if not labels:
        return NOTHING
    return Said(labels=(str(labels[0]),), score=_number(scores[0]) if scores else None)


def _entities(output: Sequence[Any]) -> Said:
    labels = tuple(str(entity.get("entity_group", entity.get("entity"))) for entity in output)
    scores = [score for entity in output if (score := _number(entity.get("score"))) is not None]
    return Said(labels=labels, score=sum(scores) / len(scores) if scores else None)


def _written(text: Any, score: float | None = None) -> Said:
    if isinstance(text, Sequence) and not isinstance(text, str):  # messages: the last is the answer
        text = text[-1].get("content") if text and isinstance(text[-1], Mapping) else None
    if not isinstance(text, str):
        return Said(score=score)
    return Said(score=score, length=len(text), empty=not text.strip())


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
