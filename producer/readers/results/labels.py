"""The labels of an output with their scores, by which results are chosen.

- An object with `label` and `score` has that label. Of a list of such objects the first counts, which is the best.
- Zero-shot classification has `labels` and `scores`, of which the first counts. If its labels were judged apart
  (`multi_label`), each of them counts.
- Named entities all count, by `entity_group` or `entity`; `B-PER` and `I-PER` are also `PER`.
- Any other object with a `score`, such as an answer or a ranking's best passage, has a score and no label.
- A task with several heads has the labels of all of them: of an object of such objects, or of pairs of keys such as
  `topic` and `topic_score`.
"""

from collections.abc import Iterator
from typing import Any

SCORE_SUFFIX = "_score"
TAG_PREFIXES = ("B-", "I-")  # of the first and of the other tokens of an entity
LABEL_KEYS, ENTITY_KEYS = ("label",), ("entity_group", "entity")

LabelScore = tuple[str | None, float | None]


def find_labels(output: object, *, is_multi_label: bool = False) -> Iterator[LabelScore]:
    """Yield each label of an output that counts, with its score; None for what it lacks."""
    pairs = list(_labels_of(output, is_multi_label))
    if not pairs and isinstance(output, dict):
        for key, head in output.items():
            pairs += _labels_of(head, is_multi_label)
            if key.endswith(SCORE_SUFFIX) and (score := number_or_none(head)) is not None:
                pairs.append((_text_or_none(output.get(key.removesuffix(SCORE_SUFFIX))), score))
    yield from pairs


def _labels_of(output: object, is_multi_label: bool) -> Iterator[LabelScore]:
    if isinstance(output, list) and output:
        if _label_of(output[0], ENTITY_KEYS) is None:
            yield from _labels_of(output[0], is_multi_label)
        else:
            for entity in output:
                label, score = _label_of(entity, ENTITY_KEYS), _score_of(entity)
                yield label, score
                if label is not None and label.startswith(TAG_PREFIXES):
                    yield label[len(TAG_PREFIXES[0]) :], score
    elif isinstance(output, dict):
        yield from _labels_of_object(output, is_multi_label)


def _labels_of_object(output: dict[str, Any], is_multi_label: bool) -> Iterator[LabelScore]:
    label = _label_of(output, LABEL_KEYS + ENTITY_KEYS)
    if label is not None or "score" in output:
        yield label, _score_of(output)
    elif isinstance(output.get("labels"), list) and isinstance(output.get("scores"), list):
        pairs = list(zip(output["labels"], output["scores"], strict=False))
        for label, score in pairs if is_multi_label else pairs[:1]:
            yield _text_or_none(label), number_or_none(score)


def _label_of(value: object, keys: tuple[str, ...]) -> str | None:
    if not isinstance(value, dict):
        return None
    return next((label for key in keys if (label := _text_or_none(value.get(key))) is not None), None)


def _score_of(value: object) -> float | None:
    return number_or_none(value.get("score")) if isinstance(value, dict) else None


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def number_or_none(value: Any) -> float | None:
    """Return a number as a float; None for anything else, and for one that is too large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
