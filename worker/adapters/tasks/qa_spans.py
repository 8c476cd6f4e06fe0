"""The spans of a window that most likely hold the answer, from a model's logits for starts and ends."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# The logit of tokens that can't be part of an answer.
MASKED_LOGIT = np.float32(-10_000.0)


@dataclass(frozen=True, slots=True)
class AnswerSpans:
    """Spans, best first: first and last tokens, both included, with their probabilities, and that of no answer."""

    starts: Integers
    ends: Integers
    scores: Floats
    null_score: float


def best_spans(logits: Floats, answerable: npt.NDArray[np.bool_], count: int, max_tokens: int) -> AnswerSpans:
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
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


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
    if count == 1:
        return np.argmax(scores, keepdims=True)
    if len(scores) <= count:
        return np.argsort(-scores)
    indices = np.argpartition(-scores, count)[:count]
    return indices[np.argsort(-scores[indices])]
