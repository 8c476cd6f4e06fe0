"""Deadlines as people write them."""

from datetime import UTC, datetime

import pytest

from models.errors import UsageError
from producer.submission.request import FailureLimit
from producer.times import Deadline


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("6h", 21_600), ("1h30m", 5_400), ("2d", 172_800), ("90s", 90), ("0.5h", 1_800), (" 5M ", 300)],
)
def test_a_span(said: str, seconds: float) -> None:
    assert Deadline.parse(said) == Deadline(seconds=seconds)


def test_a_moment_with_its_zone() -> None:
    assert Deadline.parse("2026-11-25T06:00+02:00").expires_at == datetime(2026, 11, 25, 4, tzinfo=UTC)


def test_a_moment_without_one_is_this_machine_s() -> None:
    moment = Deadline.parse("2026-11-25 06:00").expires_at
    assert moment is not None
    assert moment == datetime(2026, 11, 25, 6).astimezone()


@pytest.mark.parametrize("said", ["", "soon", "6", "h", "6 hours", "0h", "4000d", "2026-13-01", "-1h", "9" * 400 + "d"])
def test_anything_else_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match="deadline"):
        Deadline.parse(said)


@pytest.mark.parametrize(("said", "of_200"), [("0", 0), ("20", 20), ("2.5%", 5), ("0%", 0), ("100%", 200), ("0.4%", 0)])
def test_allowed_failures(said: str, of_200: int) -> None:
    assert FailureLimit.parse(said).count_for(200) == of_200


@pytest.mark.parametrize("said", ["", "-1", "101%", "2.5", "%", "many", "1e3", "9" * 30])
def test_other_allowances_are_refused(said: str) -> None:
    with pytest.raises(UsageError, match="max_failures"):
        FailureLimit.parse(said)
