"""Spans: which stretches of a window a model takes for the answer, from its logits for beginnings and ends."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

Floats = npt.NDArray[np.float32]

# What a token that can't be answered with gets for a logit.
IMPOSSIBLE = np.float32(-10_000.0)


@dataclass(frozen=True, slots=True)
class Spans:
    """First and last tokens, both inside, with their probabilities, best first; and that of there being no answer."""

    starts: Integers
    ends: Integers
    scores: Floats
    null: float


def best(logits: Floats, answerable: npt.NDArray[np.bool_], count: int, longest: int) -> Spans:
    """The `count` likeliest spans of at most `longest` tokens among the `answerable`; `logits` is `(2, tokens)`.

    Fewer where the likeliest begin or end on a token that isn't answerable. No answer is a span of the first token
    alone, which is never among the spans with a score.
    """
    start, end = _probabilities(np.where(answerable, logits, IMPOSSIBLE))
    null = float(start[0] * end[0])
    start[0] = end[0] = 0.0
    starts, ends, scores = _ranked(start, end, count, min(longest, len(start)))
    wanted = answerable[starts] & answerable[ends]
    return Spans(starts[wanted], ends[wanted], scores[wanted], null)


def _probabilities(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _ranked(start: Floats, end: Floats, count: int, longest: int) -> tuple[Integers, Integers, Floats]:
    # Only spans of up to `longest` tokens are multiplied out: a row for each beginning, a column for each length.
    ends = np.lib.stride_tricks.sliding_window_view(np.concatenate([end, np.zeros(longest - 1, end.dtype)]), longest)
    band = start[:, None] * ends
    if np.count_nonzero(band) >= count:
        starts, lengths = np.unravel_index(_largest(band.ravel(), count), band.shape)
        return starts, starts + lengths, band[starts, lengths]
    # With so few spans transformers goes on with any of score 0, those that are too long or backwards among them. To
    # take the same ones it takes the same array.
    square = np.tril(np.triu(np.outer(start, end)), longest - 1)
    starts, stops = np.unravel_index(_largest(square.ravel(), count), square.shape)
    return starts, stops, square[starts, stops]


def _largest(scores: Floats, count: int) -> Integers:
    if count == 1:
        return np.argmax(scores, keepdims=True)
    if len(scores) <= count:
        return np.argsort(-scores)
    places = np.argpartition(-scores, count)[:count]
    return places[np.argsort(-scores[places])]
