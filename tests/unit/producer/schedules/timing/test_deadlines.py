"""Spans and deadlines as people write them."""

from datetime import UTC, datetime, timedelta

import pytest

from models.errors import UsageError
from producer.schedules.timing import deadlines
from producer.schedules.timing.cron import Cron

BERLIN = Cron.parse("0 2 * * *", "Europe/Berlin")
SCHEDULED_AT = datetime(2026, 11, 24, 1, tzinfo=UTC)


@pytest.mark.parametrize(("text", "hours"), [("4h", 4), ("1d", 24), ("90m", 1.5), ("0s", 0)])
def test_a_span(text: str, hours: float) -> None:
    assert deadlines.parse_timedelta(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "4", "-1h", "soon", "9000d"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="not an age"):
        deadlines.parse_timedelta(text)


@pytest.mark.parametrize("text", ["4h", "06:00", "6:00", "23:59", "1h30m", "2026-11-25 06:00", "2026-11-25"])
def test_a_deadline(text: str) -> None:
    deadlines.check_deadline(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("24:00", "none of these: a duration such as 6h"),
        ("6", "none of these: a duration such as 6h"),
        ("06:60", "none of these: a duration such as 6h"),
        ("6am", "none of these: a duration such as 6h"),
        ("0h", "leaves no time"),
        ("9000d", "at most ten years"),
    ],
)
def test_what_is_no_deadline(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        deadlines.check_deadline(text)


@pytest.mark.parametrize(
    ("text", "scheduled_at", "deadline"),
    [
        ("4h", "2026-11-24T01:00Z", "2026-11-24T05:00Z"),
        ("06:00", "2026-11-24T01:00Z", "2026-11-24T05:00Z"),
        ("02:00", "2026-11-24T01:00Z", "2026-11-25T01:00Z"),  # the scheduled time itself leaves no time
        ("01:30", "2026-11-24T01:00Z", "2026-11-25T00:30Z"),
        ("06:00", "2026-10-25T00:00Z", "2026-10-25T05:00Z"),  # five hours after 02:00, since one comes twice
        ("4h", "2026-10-25T00:00Z", "2026-10-25T04:00Z"),
        ("06:00", "2026-03-29T01:00Z", "2026-03-29T04:00Z"),
        ("02:30", "2026-03-28T12:00Z", "2026-03-29T01:00Z"),  # which that day lacks: when the gap ends
        ("2026-11-25 06:00", "2026-11-24T01:00Z", "2026-11-25T05:00Z"),
        ("2026-11-25", "2026-11-24T01:00Z", "2026-11-25T23:00Z"),
        ("2026-11-25 06:00", "2026-11-26T01:00Z", None),
    ],
)
def test_the_moment_of_a_deadline(text: str, scheduled_at: str, deadline: str | None) -> None:
    result = deadlines.deadline_after(datetime.fromisoformat(scheduled_at), text, BERLIN)
    assert result == (deadline and datetime.fromisoformat(deadline))
