"""Scores of a model's labels: of a text's windows together, and as JSON for many jobs at once. Pure."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from models.tasks.spec import WindowAggregation

Floats = npt.NDArray[np.float32]


def aggregate_windows(
    scores: Floats, aggregation: WindowAggregation, token_counts: Callable[[], Sequence[int]]
) -> Floats:
    """Return the scores `(labels,)` of a text from those of its windows.

    scores: `(windows, labels)`, finite; a single window's are returned as they are.
    aggregation: max: the highest of each label; first: the first window's; weighted: a mean weighted by tokens.
    token_counts: returns the tokens of the text in each window.
    """
    if len(scores) == 1 or aggregation == "first":
        return scores[0]
    if aggregation == "max":
        return scores.max(axis=0)
    # Not in float32, which would lose digits over thousands of windows.
    weights = token_counts() if aggregation == "weighted" else None
    mean: Floats = np.average(scores.astype(np.float64), axis=0, weights=weights).astype(np.float32)
    return mean


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
