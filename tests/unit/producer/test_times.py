import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from models.errors import UsageError
from producer import times
from producer.times import Deadline

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def machine_in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    previous = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.setenv("TZ", previous) if previous else monkeypatch.delenv("TZ")
    time.tzset()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("6h", 21_600), ("1h30m", 5_400), ("2d", 172_800), ("90s", 90), ("0.5h", 1_800), (" 5M ", 300)],
)
def test_a_deadline_may_be_a_duration(value: str, seconds: float) -> None:
    assert Deadline.parse(value) == Deadline(seconds=seconds)


@pytest.mark.parametrize(
    ("value", "expires_at"),
    [
        ("2026-11-25T06:00+02:00", "2026-11-25T04:00Z"),
        ("2026-11-25 06:00", "2026-11-25T05:00Z"),
        ("2026-11-25", "2026-11-25T23:00Z"),  # the end of that day
        ("Wed 2026-11-25 06:00 CET", "2026-11-25T05:00Z"),
        ("13:01", "2026-11-24T12:01Z"),
        ("13:00", "2026-11-25T12:00Z"),  # the present minute leaves no time
        (" 6:00 ", "2026-11-25T05:00Z"),
    ],
)
@pytest.mark.usefixtures("machine_in_berlin")
def test_a_deadline_may_be_a_time_of_this_machine_s_clock(value: str, expires_at: str) -> None:
    assert Deadline.parse(value, NOW).expires_at == datetime.fromisoformat(expires_at)


@pytest.mark.usefixtures("machine_in_berlin")
def test_a_time_of_day_comes_again_after_a_clock_change() -> None:
    night_before = datetime(2026, 3, 28, 12, tzinfo=UTC)

    assert Deadline.parse("06:00", night_before).expires_at == datetime(2026, 3, 29, 4, tzinfo=UTC)


def test_a_repeated_request_has_the_same_deadline_whenever_it_is_made() -> None:
    first, later = (Deadline.parse("06:00", NOW + timedelta(days=days)) for days in (0, 3))

    assert first.expires_at != later.expires_at
    assert first.comparable_values == later.comparable_values
    assert first.comparable_values != Deadline.parse("06:01", NOW).comparable_values


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "6",
        "h",
        "6 hours",
        "0h",
        "4000d",
        "2026-13-01",
        "-1h",
        "9" * 400 + "d",
        "24:00",
        "6am",
        "9999-12-31",
    ],
)
def test_other_deadlines_are_rejected(value: str) -> None:
    with pytest.raises(UsageError, match="deadline"):
        Deadline.parse(value)


def test_a_deadline_that_has_passed_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^the deadline 2020-01-0.* has passed; take a later one"):
        Deadline.parse_future("2020-01-01")
    for value in ("6h", "06:00", "2999-01-01"):
        Deadline.parse_future(value)


@pytest.mark.parametrize(
    ("value", "start", "seconds"),
    [
        ("2026-03-04", "2026-03-03T23:00Z", 86_400),
        ("20260304", "2026-03-03T23:00Z", 86_400),
        ("2026-03-29", "2026-03-28T23:00Z", 23 * 3600),  # the clocks go forward
        ("2026-03-04 02:00", "2026-03-04T01:00Z", 60),
        ("2026-03-04T02:00:30", "2026-03-04T01:00:30Z", 1),
        ("2026-03-04T01:00:00.000Z", "2026-03-04T01:00Z", 60),
        ("2026-03-04T03:00+02:00", "2026-03-04T01:00Z", 60),
        ("Wed 2026-03-04 02:00 CET", "2026-03-04T01:00Z", 60),
        ("2026-03-04 01:00 UTC", "2026-03-04T01:00Z", 60),
        ("Sun 2026-10-25 02:30 CEST", "2026-10-25T00:30Z", 60),
        ("Sun 2026-10-25 02:30 CET", "2026-10-25T01:30Z", 60),
    ],
)
def test_a_range_is_the_day_the_minute_or_the_second(value: str, start: str, seconds: float) -> None:
    assert times.parse_time_range(value, BERLIN) == (
        datetime.fromisoformat(start),
        datetime.fromisoformat(start) + timedelta(seconds=seconds),
    )


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2026-13-01", "2026-W10", "9999-12-31", "2026-03-04 02:00 CEST", "02:00", "2026-02-30"]
)
def test_other_times_are_rejected(value: str) -> None:
    with pytest.raises(UsageError, match="is not a time such as"):
        times.parse_time_range(value, BERLIN)


@pytest.mark.usefixtures("machine_in_berlin")
def test_tables_show_local_times_with_their_zone() -> None:
    assert times.format_local(NOW) == "2026-11-24 13:00:00 CET"
    assert times.format_local(datetime(2026, 7, 1, tzinfo=UTC)) == "2026-07-01 02:00:00 CEST"
    assert times.format_local(None) == ""


@pytest.mark.parametrize("month", [1, 7])
@pytest.mark.parametrize(
    "zone",
    ["Europe/Lisbon", "Africa/Lagos", "Asia/Jakarta", "Pacific/Guam", "Asia/Kathmandu", "Atlantic/Faroe", "Etc/GMT+3"],
)
def test_a_time_that_tables_show_is_read_in_every_zone(month: int, zone: str) -> None:
    local = datetime(2026, month, 7, 12, tzinfo=ZoneInfo(zone))

    start, _ = times.parse_time_range(f"{local:%a %Y-%m-%d %H:%M %Z}", local.tzinfo)

    assert start == local
