"""When a quarantined slice gets its turn."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.leasing.quarantine_turns import REST_SECONDS, TURN_SECONDS, WAIT_SECONDS, Share, Turn, Waiting, next_turn

NOW = 1000.0
LONG = Waiting(is_next=False, seconds=WAIT_SECONDS)


@pytest.mark.parametrize(
    ("waiting", "holds", "expected"),
    [
        (None, False, Turn.ORDINARY),
        (None, True, Turn.ORDINARY),
        (Waiting(is_next=True, seconds=0), False, Turn.QUARANTINED),
        (Waiting(is_next=True, seconds=0), True, Turn.NOTHING),
        (Waiting(is_next=False, seconds=WAIT_SECONDS - 1), False, Turn.ORDINARY),
        (Waiting(is_next=False, seconds=WAIT_SECONDS - 1), True, Turn.ORDINARY),
        (LONG, False, Turn.QUARANTINED),
        (LONG, True, Turn.NOTHING),
        (Waiting(is_next=False, seconds=math.inf), True, Turn.NOTHING),
    ],
)
def test_comes_by_order_or_by_waiting_and_runs_alone(waiting: Waiting | None, holds: bool, expected: Turn) -> None:
    assert next_turn(Share(), waiting, NOW, holds=holds)[0] is expected


def test_waits_for_the_hand_to_be_empty_however_long_that_takes() -> None:
    share = Share()

    for seconds in range(100):
        turn, share = next_turn(share, LONG, NOW + seconds, holds=True)
        assert turn is Turn.NOTHING

    assert next_turn(share, LONG, NOW + 100, holds=False)[0] is Turn.QUARANTINED


def test_leaves_ordinary_work_its_share() -> None:
    turn, share = next_turn(Share(), LONG, NOW, holds=False)
    within, share = next_turn(share, LONG, NOW + TURN_SECONDS / 2, holds=False)
    after, share = next_turn(share, LONG, NOW + TURN_SECONDS, holds=False)
    later, share = next_turn(share, LONG, NOW + TURN_SECONDS + REST_SECONDS, holds=False)

    assert [turn, within, after, later] == [Turn.QUARANTINED, Turn.QUARANTINED, Turn.ORDINARY, Turn.QUARANTINED]


def test_that_goes_first_by_order_waits_for_no_share() -> None:
    _, share = next_turn(Share(), LONG, NOW, holds=False)

    assert next_turn(share, Waiting(is_next=True, seconds=0), NOW + TURN_SECONDS, holds=False)[0] is Turn.QUARANTINED


def test_that_is_gone_lets_ordinary_work_be_claimed_again() -> None:
    _, share = next_turn(Share(), LONG, NOW, holds=True)

    turn, share = next_turn(share, None, NOW + 1, holds=True)

    assert (turn, share) == (Turn.ORDINARY, Share())


@given(st.lists(st.tuples(st.floats(0.01, 5), st.booleans()), min_size=1, max_size=200))
def test_comes_within_a_bounded_time_however_busy_the_process_is(looks: list[tuple[float, bool]]) -> None:
    """Between two turns no more passes than a turn, a rest, and what was in hand when the rest ended."""
    share, now, idle_since = Share(), NOW, None
    moments = itertools.accumulate((pause for pause, _ in looks), initial=NOW)

    for now, (_, holds) in zip(moments, looks, strict=False):
        turn, share = next_turn(share, LONG, now, holds=holds)
        if turn is Turn.ORDINARY:
            idle_since = now if idle_since is None else idle_since
            assert now - idle_since < REST_SECONDS
        else:
            idle_since = None
