from datetime import UTC, datetime

import pytest

from models.errors import UsageError
from producer.times import Deadline


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("6h", 21_600), ("1h30m", 5_400), ("2d", 172_800), ("90s", 90), ("0.5h", 1_800), (" 5M ", 300)],
)
def test_a_deadline_may_be_a_duration(value: str, seconds: float) -> None:
    assert Deadline.parse(value) == Deadline(seconds=seconds)


def test_a_deadline_may_be_a_time_with_its_zone() -> None:
    assert Deadline.parse("2026-11-25T06:00+02:00").expires_at == datetime(2026, 11, 25, 4, tzinfo=UTC)


def test_a_time_without_a_zone_is_in_this_machine_s() -> None:
    assert Deadline.parse("2026-11-25 06:00").expires_at == datetime(2026, 11, 25, 6).astimezone()


@pytest.mark.parametrize(
    "value", ["", "soon", "6", "h", "6 hours", "0h", "4000d", "2026-13-01", "-1h", "9" * 400 + "d"]
)
def test_other_deadlines_are_rejected(value: str) -> None:
    with pytest.raises(UsageError, match="deadline"):
        Deadline.parse(value)
