"""Spans: which stretches of a window a model takes for the answer, from its logits for beginnings and ends."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

Floats = npt.NDArray[np.float32]

# What a token that can't be answered with gets for a logit.
MASKED_LOGIT = np.float32(-10_000.0)


@dataclass(frozen=True, slots=True)
class AnswerSpans:
    """First and last tokens, both inside, with their probabilities, best first; and that of there being no answer."""

    starts: Integers
    ends: Integers
    scores: Floats
    null_score: float


def best_spans(logits: Floats, answerable: npt.NDArray[np.bool_], count: int, max_tokens: int) -> AnswerSpans:
    """The `count` likeliest spans of at most `longest` tokens among the `answerable`; `logits` is `(2, tokens)`.

    Fewer where the likeliest begin or end on a token that isn't answerable. No answer is a span of the first token
    alone, which is never among the spans with a score.
    """
    start, end = _softmax(np.where(answerable, logits, MASKED_LOGIT))
    null = float(start[0] * end[0])
    start[0] = end[0] = 0.0
    starts, ends, scores = _rank_spans(start, end, count, min(max_tokens, len(start)))
    wanted = answerable[starts] & answerable[ends]
    return AnswerSpans(starts[wanted], ends[wanted], scores[wanted], null)


def _softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _rank_spans(start: Floats, end: Floats, count: int, max_tokens: int) -> tuple[Integers, Integers, Floats]:
    # Only spans of up to `longest` tokens are multiplied out: a row for each beginning, a column for each length.
    ends = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([end, np.zeros(max_tokens - 1, end.dtype)]), max_tokens
    )
    band = start[:, None] * ends
    if np.count_nonzero(band) >= count:
        starts, lengths = np.unravel_index(_top_indices(band.ravel(), count), band.shape)
        return starts, starts + lengths, band[starts, lengths]
    # With so few spans transformers goes on with any of score 0, those that are too long or backwards among them. To
    # take the same ones it takes the same array.
    square = np.tril(np.triu(np.outer(start, end)), max_tokens - 1)
    starts, stops = np.unravel_index(_top_indices(square.ravel(), count), square.shape)
    return starts, stops, square[starts, stops]


def _top_indices(scores: Floats, count: int) -> Integers:
    if count == 1:
        return np.argmax(scores, keepdims=True)
    if len(scores) <= count:
        return np.argsort(-scores)
    places = np.argpartition(-scores, count)[:count]
    return places[np.argsort(-scores[places])]
