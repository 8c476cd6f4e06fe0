"""Spans of tokens with one tag, found in arrays as transformers' pipeline finds them token by token.

Scores have the same bits as there: sums run over equally long spans at once, each as NumPy adds up that span alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spans:
    """Consecutive spans, each with its likeliest label; `starts` and `stops` are places in what they consist of."""

    starts: Integers
    stops: Integers
    labels: Integers
    scores: Floats

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, chosen: Booleans) -> "Spans":
        return Spans(self.starts[chosen], self.stops[chosen], self.labels[chosen], self.scores[chosen])


@dataclass(frozen=True, slots=True)
class Tags:
    """What the labels of a model say about neighbours.

    numbers: for each label, equal for those that differ only in `B-` and `I-`.
    begins: whether a label begins a span even after its like, as `B-` does.
    """

    numbers: Integers
    begins: Booleans


def tags_of(labels: Sequence[str]) -> Tags:
    """Read the prefixes of a model's labels; one without a prefix counts as `I-`."""
    names = [label[2:] if label.startswith(("B-", "I-")) else label for label in labels]
    numbers = {name: number for number, name in enumerate(names)}
    return Tags(
        np.array([numbers[name] for name in names], np.int64),
        np.array([label.startswith("B-") for label in labels], np.bool_),
    )


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis, with the bits of transformers' pipeline."""
    with np.errstate(over="ignore"):  # float32 can't hold the distance of its largest numbers, whose exponential is 0
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def token_spans(scores: Floats) -> Spans:
    """One span for each token. scores: `(tokens, labels)`."""
    places = np.arange(len(scores))
    labels = scores.argmax(axis=-1)
    return Spans(places, places + 1, labels, scores[places, labels])


def word_spans(scores: Floats, is_subword: Booleans, edges: Integers, strategy: str) -> Spans:
    """One span for each word, labelled by its first token, its surest token (max) or the average of all.

    edges: where each text begins, and the end of the last; no word crosses them.
    """
    tokens = token_spans(scores)
    starts, stops = _split(~is_subword, edges)
    if strategy == "average":
        averages = _means(scores, starts, stops)
        words = token_spans(averages)
        return Spans(starts, stops, words.labels, words.scores)
    deciding = starts if strategy == "first" else _surest_tokens(tokens.scores, starts, stops)
    return Spans(starts, stops, tokens.labels[deciding], tokens.scores[deciding])


def merge(parts: Spans, tags: Tags, edges: Integers, kept_labels: Booleans) -> Spans:
    """Join neighbouring parts of one tag; the label is the first part's, the score their mean.

    edges: in parts, as those of `word_spans` in tokens.
    kept_labels: for each label, whether to return its spans.
    """
    numbers = tags.numbers[parts.labels]
    begins = tags.begins[parts.labels]
    begins[1:] |= numbers[1:] != numbers[:-1]
    starts, stops = _split(begins, edges)
    kept = kept_labels[parts.labels[starts]]
    starts, stops = starts[kept], stops[kept]
    return Spans(starts, stops, parts.labels[starts], _means(parts.scores, starts, stops))


def _split(begins: Booleans, edges: Integers) -> tuple[Integers, Integers]:
    """Starts and stops of the spans that begin where `begins` says and at each edge."""
    begins[edges[:-1][edges[:-1] < len(begins)]] = True
    starts = np.flatnonzero(begins)
    return starts, np.append(starts[1:], len(begins))[: len(starts)]


def _surest_tokens(scores: Floats, starts: Integers, stops: Integers) -> Integers:
    """The place of the highest score in each span, the first of equals."""
    if not len(starts):
        return starts
    highest = np.repeat(np.maximum.reduceat(scores, starts), stops - starts)
    candidates = np.flatnonzero(scores == highest)
    return candidates[np.searchsorted(candidates, starts)]


def _means(scores: Floats, starts: Integers, stops: Integers) -> Floats:
    """The mean of each span over the first axis, as `np.nanmean` computes it: a float32 sum, divided in float64."""
    means = scores[starts]
    lengths = stops - starts
    for length in np.unique(lengths[lengths > 1]).tolist():
        [chosen] = np.nonzero(lengths == length)
        sums = scores[starts[chosen, None] + np.arange(length)].sum(axis=1)
        means[chosen] = sums.astype(np.float64) / length
    return means
