"""Chains of schedules: what may follow what, and in which order they are made."""

import pytest

from models.errors import UsageError
from producer.schedules.chains import check_chain, leaders_first


def test_a_chain_ends_at_a_schedule_with_times_of_its_own() -> None:
    after = {"c": "b", "b": "a", "a": None, "other": None}

    for name in after:
        check_chain(name, after)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ({"a": "b"}, "schedule 'a': there is no schedule 'b' to run after"),
        ({"a": "b", "b": "c"}, "schedule 'b': there is no schedule 'c' to run after"),
        ({"a": "a"}, "circle: a → a"),
        ({"a": "b", "b": "c", "c": "b"}, "circle: b → c → b"),
    ],
)
def test_unknown_schedules_and_circles_are_named(after: dict[str, str | None], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_chain("a", after)


def test_each_comes_behind_the_one_that_it_follows() -> None:
    after = {"d": "c", "b": "a", "c": "b", "a": None, "e": "undeclared"}

    assert list(leaders_first(after)) == ["a", "b", "c", "d", "e"]
