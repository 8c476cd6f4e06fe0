"""Whether other workers are live, or may come back."""

import pytest

from worker.leasing.load_problems.peer_watch import (
    MAX_MISSED_LEASES,
    MIN_SILENT_SECONDS,
    STALE_WORKER_SECONDS,
    PeerWatch,
)


@pytest.mark.parametrize(
    ("lease_seconds", "silent_seconds"), [(2.0, MIN_SILENT_SECONDS), (30.0, MAX_MISSED_LEASES * 30.0)]
)
def test_a_worker_may_be_silent_for_three_leases_and_at_least_a_minute(
    lease_seconds: float, silent_seconds: float
) -> None:
    assert PeerWatch(lease_seconds, lambda: silent_seconds).silent_seconds == silent_seconds


def test_silence_says_nothing_soon_after_an_outage() -> None:
    assert PeerWatch(30.0, lambda: MAX_MISSED_LEASES * 30.0 - 1).silent_seconds == STALE_WORKER_SECONDS


def test_a_worker_that_could_serve_may_return_for_as_long() -> None:
    now = 1000.0
    peers = PeerWatch(30.0, lambda: STALE_WORKER_SECONDS, lambda: now)
    assert not peers.may_return("reviews", None)

    peers.record_server("reviews", None)

    assert peers.may_return("reviews", None)
    assert not peers.may_return("reviews", "r")
    assert not peers.may_return("tickets", None)
    now += MAX_MISSED_LEASES * 30.0
    assert not peers.may_return("reviews", None)
