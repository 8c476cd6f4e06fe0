"""The spans of a window that most likely hold the answer, from a model's logits for starts and ends."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Booleans = npt.NDArray[np.bool_]

# The logit of tokens that can't be part of an answer.
MASKED_LOGIT = np.float32(-10_000.0)


@dataclass(frozen=True, slots=True)
class AnswerSpans:
    """Spans, best first: first and last tokens, both included, with their probabilities, and that of no answer."""

    starts: Integers
    ends: Integers
    scores: Floats
    null_score: float


@dataclass(frozen=True, slots=True)
class SpanTable:
    """The spans of several windows, a line for each window, as in `AnswerSpans`; only those that are `valid` exist."""

    starts: Integers
    ends: Integers
    scores: Floats
    valid: Booleans
    null_scores: Floats


def best_spans_of_windows(logits: Floats, answerable: Booleans, count: int, max_tokens: int) -> SpanTable:
    """What `best_spans` gives for each of these windows, which have equally many tokens; scores have the same bits.

    logits: `(windows, 2, tokens)`.
    answerable: `(windows, tokens)`.
    """
    probabilities = _softmax(np.where(answerable[:, None], logits, MASKED_LOGIT))
    start, end = probabilities[:, 0], probabilities[:, 1]
    null_scores = start[:, 0] * end[:, 0]
    start[:, 0] = end[:, 0] = 0.0
    starts, ends, scores, valid = _rank_spans_of_windows(start, end, count, min(max_tokens, start.shape[1]))
    valid &= np.take_along_axis(answerable, starts, axis=1) & np.take_along_axis(answerable, ends, axis=1)
    return SpanTable(starts, ends, scores, valid, null_scores)


def best_spans(logits: Floats, answerable: Booleans, count: int, max_tokens: int) -> AnswerSpans:
    """The likeliest spans; fewer than `count` if some of those start or end on a token that can't answer.

    logits: `(2, tokens)`, for starts and ends.
    answerable: the tokens that may be part of an answer.
    max_tokens: length of the longest span.

    The span of the first token alone stands for "no answer", and is never among the spans.
    """
    start, end = _softmax(np.where(answerable, logits, MASKED_LOGIT))
    null = float(start[0] * end[0])
    start[0] = end[0] = 0.0
    starts, ends, scores = _rank_spans(start, end, count, min(max_tokens, len(start)))
    is_answerable = answerable[starts] & answerable[ends]
    return AnswerSpans(starts[is_answerable], ends[is_answerable], scores[is_answerable], null)


def _softmax(logits: Floats) -> Floats:
    with np.errstate(over="ignore"):  # the smallest and the largest number are an infinity apart
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _rank_spans_of_windows(
    start: Floats, end: Floats, count: int, max_tokens: int
) -> tuple[Integers, Integers, Floats, Booleans]:
    """As `_rank_spans`, a line for each window; the last array says which places of a line hold a span."""
    windows = len(start)
    padded_end = np.concatenate([end, np.zeros((windows, max_tokens - 1), end.dtype)], axis=1)
    ends = np.lib.stride_tricks.sliding_window_view(padded_end, max_tokens, axis=1)
    band = (start[:, :, None] * ends).reshape(windows, -1)
    shape = (windows, count)
    starts, lasts, scores = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    valid = np.ones(shape, np.bool_)
    has_enough = np.count_nonzero(band, axis=1) >= count
    if has_enough.any():
        indices = _top_indices(band[has_enough], count)
        starts[has_enough], lengths = np.divmod(indices, max_tokens)
        lasts[has_enough] = starts[has_enough] + lengths
        scores[has_enough] = np.take_along_axis(band[has_enough], indices, axis=1)
    for window in np.flatnonzero(~has_enough):
        ranked = _rank_spans(start[window], end[window], count, max_tokens)
        filled = len(ranked[0])
        starts[window, :filled], lasts[window, :filled], scores[window, :filled] = ranked
        valid[window, filled:] = False
    return starts, lasts, scores, valid


def _rank_spans(start: Floats, end: Floats, count: int, max_tokens: int) -> tuple[Integers, Integers, Floats]:
    # Only spans of up to `max_tokens` tokens are multiplied: one row for each start, one column for each length.
    ends = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([end, np.zeros(max_tokens - 1, end.dtype)]), max_tokens
    )
    band = start[:, None] * ends
    if np.count_nonzero(band) >= count:
        starts, lengths = np.unravel_index(_top_indices(band.ravel(), count), band.shape)
        return starts, starts + lengths, band[starts, lengths]
    # With too few spans, transformers adds spans of score 0, even too long or reversed ones. The same array gives the
    # same ones.
    square = np.tril(np.triu(np.outer(start, end)), max_tokens - 1)
    starts, ends = np.unravel_index(_top_indices(square.ravel(), count), square.shape)
    return starts, ends, square[starts, ends]


def _top_indices(scores: Floats, count: int) -> Integers:
    """Along the last axis."""
    if count == 1:
        return np.argmax(scores, axis=-1, keepdims=True)
    if scores.shape[-1] <= count:
        return np.argsort(-scores)
    indices = np.argpartition(-scores, count)[..., :count]
    order = np.argsort(-np.take_along_axis(scores, indices, axis=-1))
    return np.take_along_axis(indices, order, axis=-1)
