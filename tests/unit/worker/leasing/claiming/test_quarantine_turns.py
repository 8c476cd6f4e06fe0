"""When a quarantined slice gets its turn."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.leasing.claiming.quarantine_turns import (
    COOLDOWN_SECONDS,
    MIN_WAIT_SECONDS,
    TURN_SECONDS,
    QuarantinedSlice,
    QuarantineShare,
    Turn,
    decide_turn,
)

NOW = 1000.0
LONG = QuarantinedSlice(goes_first=False, waiting_seconds=MIN_WAIT_SECONDS)


@pytest.mark.parametrize(
    ("waiting", "holds", "expected"),
    [
        (None, False, Turn.ORDINARY),
        (None, True, Turn.ORDINARY),
        (QuarantinedSlice(goes_first=True, waiting_seconds=0), False, Turn.QUARANTINED),
        (QuarantinedSlice(goes_first=True, waiting_seconds=0), True, Turn.DRAIN),
        (QuarantinedSlice(goes_first=False, waiting_seconds=MIN_WAIT_SECONDS - 1), False, Turn.ORDINARY),
        (QuarantinedSlice(goes_first=False, waiting_seconds=MIN_WAIT_SECONDS - 1), True, Turn.ORDINARY),
        (LONG, False, Turn.QUARANTINED),
        (LONG, True, Turn.DRAIN),
        (QuarantinedSlice(goes_first=False, waiting_seconds=math.inf), True, Turn.DRAIN),
    ],
)
def test_comes_by_order_or_by_waiting_and_runs_alone(
    waiting: QuarantinedSlice | None, holds: bool, expected: Turn
) -> None:
    assert decide_turn(QuarantineShare(), waiting, NOW, has_leases=holds)[0] is expected


def test_waits_until_no_lease_is_held() -> None:
    share = QuarantineShare()

    for seconds in range(100):
        turn, share = decide_turn(share, LONG, NOW + seconds, has_leases=True)
        assert turn is Turn.DRAIN

    assert decide_turn(share, LONG, NOW + 100, has_leases=False)[0] is Turn.QUARANTINED


def test_leaves_ordinary_work_its_share() -> None:
    turn, share = decide_turn(QuarantineShare(), LONG, NOW, has_leases=False)
    within, share = decide_turn(share, LONG, NOW + TURN_SECONDS / 2, has_leases=False)
    after, share = decide_turn(share, LONG, NOW + TURN_SECONDS, has_leases=False)
    later, share = decide_turn(share, LONG, NOW + TURN_SECONDS + COOLDOWN_SECONDS, has_leases=False)

    assert [turn, within, after, later] == [Turn.QUARANTINED, Turn.QUARANTINED, Turn.ORDINARY, Turn.QUARANTINED]


def test_that_goes_first_by_order_waits_for_no_share() -> None:
    _, share = decide_turn(QuarantineShare(), LONG, NOW, has_leases=False)

    assert (
        decide_turn(share, QuarantinedSlice(goes_first=True, waiting_seconds=0), NOW + TURN_SECONDS, has_leases=False)[
            0
        ]
        is Turn.QUARANTINED
    )


def test_that_is_gone_lets_ordinary_work_be_claimed_again() -> None:
    _, share = decide_turn(QuarantineShare(), LONG, NOW, has_leases=True)

    turn, share = decide_turn(share, None, NOW + 1, has_leases=True)

    assert (turn, share) == (Turn.ORDINARY, QuarantineShare())


@given(st.lists(st.tuples(st.floats(0.01, 5), st.booleans()), min_size=1, max_size=200))
def test_comes_within_a_bounded_time_however_busy_the_process_is(looks: list[tuple[float, bool]]) -> None:
    """Between two turns no more passes than a turn, a rest, and what was in hand when the rest ended."""
    share, now, idle_since = QuarantineShare(), NOW, None
    moments = itertools.accumulate((pause for pause, _ in looks), initial=NOW)

    for now, (_, holds) in zip(moments, looks, strict=False):
        turn, share = decide_turn(share, LONG, now, has_leases=holds)
        if turn is Turn.ORDINARY:
            idle_since = now if idle_since is None else idle_since
            assert now - idle_since < COOLDOWN_SECONDS
        else:
            idle_since = None
