"""Spans against the same thing written as loops."""

import numpy as np
import numpy.typing as npt
import pytest

from worker.adapters.outputs.qa_spans import Floats, best_spans

Mask = npt.NDArray[np.bool_]


def made(tokens: int, seed: int) -> tuple[Floats, Mask]:
    drawn = np.random.RandomState(seed)
    answerable = drawn.rand(tokens) < 0.8
    answerable[0] = True
    return drawn.randn(2, tokens).astype(np.float32) * 2, answerable


def looped(logits: Floats, answerable: Mask, longest: int) -> list[tuple[float, int, int]]:
    start, end = (np.exp(np.where(answerable, item, -10_000)) for item in logits.astype(np.float64))
    start, end = start / start.sum(), end / end.sum()
    places = [place for place in np.flatnonzero(answerable).tolist() if place]
    spans = [(start[a] * end[b], a, b) for a in places for b in places if 0 <= b - a < longest]
    return sorted(spans, reverse=True)


@pytest.mark.parametrize("longest", [1, 4, 15, 1_000])
@pytest.mark.parametrize("count", [1, 2, 12])
@pytest.mark.parametrize("tokens", [12, 60, 384])
def test_the_best_are_found_in_order(tokens: int, count: int, longest: int) -> None:
    logits, answerable = made(tokens, seed=tokens + count)
    expected = looped(logits, answerable, longest)[:count]

    spans = best_spans(logits, answerable, count, longest)

    given = len(expected)  # behind them come spans of score 0, where there are fewer than asked for
    assert list(zip(spans.starts[:given], spans.ends[:given], strict=True)) == [(a, b) for _, a, b in expected]
    assert spans.scores[:given] == pytest.approx([score for score, _, _ in expected], rel=1e-5)
    assert not spans.scores[given:].any()


@pytest.mark.parametrize(("tokens", "count"), [(5, 12), (7, 16), (3, 12), (20, 12), (6, 36)])
def test_too_few_are_filled_up_as_transformers_does(tokens: int, count: int) -> None:
    logits, answerable = made(tokens, seed=tokens)
    answerable[1:-2] = False
    start, end = (np.exp(item - item.max()) for item in np.where(answerable, logits, np.float32(-10_000)))
    start, end = start / start.sum(), end / end.sum()
    start[0] = end[0] = 0
    scores = np.tril(np.triu(np.outer(start, end)), 14).ravel()
    order = np.argsort(-scores)
    if tokens**2 > count:
        order = np.argpartition(-scores, count)[:count]
        order = order[np.argsort(-scores[order])]
    starts, ends = np.unravel_index(order, (tokens, tokens))
    kept = answerable[starts] & answerable[ends]

    spans = best_spans(logits, answerable, count, 15)

    assert (spans.starts.tolist(), spans.ends.tolist()) == (starts[kept].tolist(), ends[kept].tolist())


def test_no_answer_is_the_first_token_s_and_is_among_no_spans() -> None:
    logits = np.array([[5, 0, 0, 0], [5, 0, 0, 0]], dtype=np.float32)

    spans = best_spans(logits, np.array([True, False, True, True]), 1, 15)

    share = np.exp(5) / (np.exp(5) + 2)
    assert spans.null_score == pytest.approx(share**2, rel=1e-5)
    assert (spans.starts.tolist(), spans.ends.tolist()) == ([2], [2])
    assert spans.scores == pytest.approx([((1 - share) / 2) ** 2], rel=1e-4)


def test_what_can_t_be_answered_takes_no_share() -> None:
    logits = np.array([[0, 90, 1, 1], [0, 90, 1, 1]], dtype=np.float32)
    plain = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], dtype=np.float32)
    answerable = np.array([True, False, True, True])

    assert best_spans(logits, answerable, 2, 15).scores.tolist() == best_spans(plain, answerable, 2, 15).scores.tolist()


def test_logits_are_left_as_they_are() -> None:
    logits, answerable = made(20, seed=1)
    before = logits.copy()

    best_spans(logits, answerable, 3, 15)

    assert (logits == before).all()


@pytest.mark.parametrize("count", [1, 16, 100])
def test_as_many_as_there_are_at_most(count: int) -> None:
    spans = best_spans(*made(4, seed=2), count, 15)

    assert len(spans.scores) <= min(count, 16)
