"""Verdicts over slices whose holders are gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.leasing.quarantine import (
    HOPELESS_JOBS,
    SUSPECT_DEATHS,
    SUSPECT_LAPSES,
    Verdict,
    is_hopeless,
    suspect_of,
    verdict,
)


@pytest.mark.parametrize(
    ("size", "deaths", "lapses", "expected"),
    [
        (1024, 1, 0, Verdict.QUEUE),
        (1024, 2, 0, Verdict.SPLIT),
        (1024, 0, 4, Verdict.QUEUE),
        (1024, 0, 5, Verdict.SPLIT),
        (1, 2, 0, Verdict.QUEUE),
        (1, 3, 0, Verdict.BURY),
        (1, 0, 7, Verdict.QUEUE),
        (1, 0, 8, Verdict.BURY),
    ],
)
def test_with_three_attempts(size: int, deaths: int, lapses: int, expected: Verdict) -> None:
    assert verdict(size, deaths, lapses, 3) is expected


@given(st.integers(1, 5), st.integers(0, 20), st.integers(0, 40), st.integers(3, 10))
def test_only_a_single_suspect_is_ever_buried(size: int, deaths: int, lapses: int, most: int) -> None:
    if verdict(size, deaths, lapses, most) is Verdict.BURY:
        assert size == 1
        assert suspect_of(deaths, lapses)


@given(st.integers(3, 10))
def test_a_killer_is_closed_after_at_most_max_attempts_deaths(most: int) -> None:
    size, deaths = 1024, 0
    while (found := verdict(size, deaths, 0, most)) is not Verdict.BURY:
        size = 1 if found is Verdict.SPLIT else size
        deaths += 1
    assert deaths == max(most, SUSPECT_DEATHS + 1)
    assert SUSPECT_LAPSES > SUSPECT_DEATHS


def test_a_batch_is_hopeless_when_many_inputs_ended_their_workers_and_none_was_answered() -> None:
    assert is_hopeless(HOPELESS_JOBS, 0)
    assert not is_hopeless(HOPELESS_JOBS - 1, 0)
    assert not is_hopeless(1_000_000, 1)
