"""Scores of a model's labels as JSON, for many jobs at once. Pure."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def best_labels(prefixes: Sequence[str], scores: Floats) -> Iterator[str]:
    """Yield for each row the JSON of its best label: `{"label", "score"}`.

    prefixes: for each label the JSON before its score, see `label_prefix`.
    scores: `(rows, labels)`, finite.
    """
    best, highest = scores.argmax(axis=1).tolist(), scores.max(axis=1).tolist()
    return (f"{prefixes[label]}{score!r}}}" for label, score in zip(best, highest, strict=True))


def ranked_labels(prefixes: Sequence[str], scores: Floats, count: int | None) -> Iterator[str]:
    """Yield for each row the JSON of its `count` best labels, best first; None = all. Arguments as of `best_labels`."""
    # Equal scores keep the order of their labels, as in transformers' stable sort.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    for labels, values in zip(order, np.take_along_axis(scores, order, axis=1), strict=True):
        items = zip(labels.tolist(), values.tolist(), strict=True)
        yield f"[{','.join([f'{prefixes[label]}{score!r}}}' for label, score in items])}]"


def label_prefix(label_json: str) -> str:
    """The JSON of a label up to its score."""
    return f'{{"label":{label_json},"score":'
