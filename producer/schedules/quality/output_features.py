"""Comparable features of outputs: labels, scores and text lengths.

The features follow from the output's shape, which differs by task. An output of an unknown shape has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TEXT_FIELDS = ("generated_text", "summary_text", "translation_text")


@dataclass(frozen=True, slots=True)
class OutputFeatures:
    """The features of one output; `length` is in characters, and `empty` means no entity or no text."""

    labels: tuple[str, ...] = ()
    score: float | None = None
    length: int | None = None
    empty: bool = False


EMPTY_OUTPUT = OutputFeatures(empty=True)
NO_FEATURES = OutputFeatures()


def extract_features(output: Any) -> OutputFeatures:
    """Return the features of the first and best output, or of all entities with their mean score."""
    if isinstance(output, Mapping):
        return _mapping_features(output)
    if not isinstance(output, Sequence) or isinstance(output, str):
        return NO_FEATURES
    if not output:
        return EMPTY_OUTPUT
    first = output[0]
    if isinstance(first, Mapping) and ("entity_group" in first or "entity" in first):
        return _entity_features(output)
    return extract_features(first)  # several masks: take the first mask's list


def _mapping_features(output: Mapping[str, Any]) -> OutputFeatures:
    if "label" in output:
        return OutputFeatures(labels=(str(output["label"]),), score=_float_or_none(output.get("score")))
    if "labels" in output:
        return _ranking_features(output["labels"], output.get("scores"))
    if "answer" in output:
        return _text_features(output["answer"], _float_or_none(output.get("score")))
    for name in TEXT_FIELDS:
        if name in output:
            return _text_features(output[name])
    return OutputFeatures(score=_float_or_none(output.get("score")))


def _ranking_features(labels: Any, scores: Any) -> OutputFeatures:
    if not labels:
        return EMPTY_OUTPUT
    return OutputFeatures(labels=(str(labels[0]),), score=_float_or_none(scores[0]) if scores else None)


def _entity_features(output: Sequence[Any]) -> OutputFeatures:
    labels = tuple(str(entity.get("entity_group", entity.get("entity"))) for entity in output)
    scores = [score for entity in output if (score := _float_or_none(entity.get("score"))) is not None]
    return OutputFeatures(labels=labels, score=sum(scores) / len(scores) if scores else None)


def _text_features(text: Any, score: float | None = None) -> OutputFeatures:
    if isinstance(text, Sequence) and not isinstance(text, str):  # messages: the last one is the answer
        text = text[-1].get("content") if text and isinstance(text[-1], Mapping) else None
    if not isinstance(text, str):
        return OutputFeatures(score=score)
    return OutputFeatures(score=score, length=len(text), empty=not text.strip())


def _float_or_none(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
