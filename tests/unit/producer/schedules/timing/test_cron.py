"""Cron expressions in zones, against an oracle that walks through all minutes of UTC and looks at the clock."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.errors import UsageError
from producer.schedules.timing.cron import Cron

MINUTE = timedelta(minutes=1)

# Where the clocks are changed, or a day is left out; and a zone that is off by 45 minutes and never does.
CHANGES = {
    "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00"],
    "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30"],
    "Africa/Casablanca": ["2026-02-15T02:00", "2026-03-22T02:00"],
    "Africa/Cairo": ["2026-04-23T22:00", "2026-10-29T21:00"],
    "America/Havana": ["2026-03-08T05:00", "2026-11-01T05:00"],
    "Pacific/Apia": ["2011-12-30T10:00", "2012-03-31T14:00"],
    "Asia/Kathmandu": ["2026-01-01T00:00"],
    "UTC": ["2024-02-29T00:00"],
}


def utc(said: str) -> datetime:
    return datetime.fromisoformat(said).replace(tzinfo=UTC)


def local(instants: Iterator[datetime] | list[datetime], zone: str) -> list[str]:
    return [f"{instant.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M %z}" for instant in instants]


def day(expression: str, zone: str, said: str) -> list[str]:
    """What comes on a day by the zone's clocks: hours and minutes, with the offset where it isn't the day's first."""
    start = datetime.fromisoformat(said).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    on_it = Cron.parse(expression, zone).times_between(start - MINUTE, start + timedelta(hours=27))
    return [message[11:] for message in local(on_it, zone) if message.startswith(said)]


# The oracle. It is handed sets of numbers, not the expression, so it shares no reading of it.


class Said:
    """An expression and what it means: sets for minutes, hours and months, and a function of the day."""

    def __init__(self, words: tuple[str, ...], sets: tuple[frozenset[int], ...], weekday) -> None:
        self.expression = " ".join(words)
        self.minutes, self.hours, self.days, self.months = sets
        self.weekday = weekday
        self.both = words[2].startswith("*") or words[4].startswith("*")
        self.is_fixed = not (words[0].startswith("*") or words[1].startswith("*"))

    def __repr__(self) -> str:
        return self.expression

    def matches(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        by_day, by_weekday = wall.day in self.days, self.weekday(wall.date())
        return (by_day and by_weekday) if self.both else (by_day or by_weekday)


def comes(said: Said, zone: ZoneInfo, minute: datetime) -> bool:
    now, previous = minute.astimezone(zone), (minute - MINUTE).astimezone(zone)
    reads, read_before = now.replace(tzinfo=None), previous.replace(tzinfo=None)
    if not said.is_fixed:
        return said.matches(reads)
    if reads <= read_before or now.fold:  # the clocks were put back: these readings have been
        return False
    skipped, wall = [], read_before + MINUTE
    while wall <= reads:
        skipped.append(wall)
        wall += MINUTE
    return any(said.matches(wall) for wall in skipped)


def walked(said: Said, zone: str, after: datetime, until: datetime) -> list[datetime]:
    result, minute = [], after.replace(second=0, microsecond=0)
    while minute <= until:
        if minute > after and comes(said, ZoneInfo(zone), minute):
            result.append(minute)
        minute += MINUTE
    return result


KINDS = ("*", "one", "one", "range", "step", "list")


@st.composite
def field(draw: st.DrawFn, low: int, high: int, kinds: tuple[str, ...] = KINDS) -> tuple[str, frozenset[int]]:
    number = st.integers(low, high)
    kind = draw(st.sampled_from(kinds))
    if kind == "one":
        item = draw(number)
        return str(item), frozenset({item})
    if kind == "range":
        first, last = sorted((draw(number), draw(number)))
        step = draw(st.integers(1, 7))
        return f"{first}-{last}/{step}", frozenset(range(first, last + 1, step))
    if kind == "step":
        step = draw(st.integers(1, high))
        return f"*/{step}", frozenset(range(low, high + 1, step))
    if kind == "list":
        rows = draw(st.lists(number, min_size=2, max_size=4))
        return ",".join(map(str, rows)), frozenset(rows)
    return "*", frozenset(range(low, high + 1))


NAMES = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]


@st.composite
def weekday(draw: st.DrawFn):
    kind = draw(st.sampled_from(["*", "*", "names", "nth", "last", "number"]))
    if kind == "names":
        first = draw(st.integers(0, 4))
        last = draw(st.integers(first, 5))
        return f"{NAMES[first]}-{NAMES[last]}", lambda day: first <= day.weekday() <= last
    which = draw(st.integers(0, 6))
    number = (which + 1) % 7  # cron counts from Sunday
    if kind == "nth":
        nth = draw(st.integers(1, 5))
        return f"{NAMES[which]}#{nth}", lambda day: day.weekday() == which and (day.day - 1) // 7 == nth - 1
    if kind == "last":
        return f"{number}L", lambda day: day.weekday() == which and (day + timedelta(days=7)).month != day.month
    if kind == "number":
        return str(number or draw(st.sampled_from([0, 7]))), lambda day: day.weekday() == which
    return "*", lambda day: True


@st.composite
def sayings(draw: st.DrawFn) -> Said:
    minutes, hours = draw(field(0, 59)), draw(field(0, 23) | field(0, 3, ("one", "range", "list")))
    days, months = draw(field(1, 31) | st.just(("*", frozenset(range(1, 32))))), draw(field(1, 12) | EVERY_MONTH)
    word, on = draw(weekday())
    message = (minutes[0], hours[0], days[0], months[0], word)
    return Said(message, (minutes[1], hours[1], days[1], months[1]), on)


EVERY_MONTH = st.just(("*", frozenset(range(1, 13))))


@st.composite
def windows(draw: st.DrawFn) -> tuple[str, datetime, datetime]:
    zone = draw(st.sampled_from(sorted(CHANGES)))
    change = utc(draw(st.sampled_from(CHANGES[zone])))
    start = change + timedelta(seconds=draw(st.integers(-3 * 86_400, 86_400) | st.sampled_from([-3600, -1800, 0, 1])))
    return zone, start, start + timedelta(seconds=draw(st.integers(0, 3 * 86_400)))


def checked(said: Said, zone: str = "UTC") -> Cron:
    try:
        return Cron.parse(said.expression, zone)
    except UsageError as error:
        assume(not re.search("never comes|bad day-of-month", str(error)))  # 31 February
        raise


@given(sayings(), windows())
@settings(max_examples=200, deadline=None)
def test_after_before_between_and_count_say_what_walking_through_the_minutes_does(
    said: Said, window: tuple[str, datetime, datetime]
) -> None:
    zone, after, until = window
    cron = checked(said, zone)
    expected = walked(said, zone, after, until)

    assert list(cron.times_between(after, until)) == expected
    assert list(takewhile(lambda instant: instant <= until, cron.times_after(after))) == expected
    backwards = takewhile(lambda instant: instant > after, cron.times_before(until + timedelta.resolution))
    assert list(backwards) == expected[::-1]
    assert cron.count_between(after, until) == len(expected)


@given(sayings(), st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)))
@settings(max_examples=60, deadline=None)
def test_in_utc_it_goes_on_as_cronsim_does_itself(said: Said, start: datetime) -> None:
    cron = checked(said)
    theirs = list(islice(CronSim(cron.expression, start), 5))
    assert [
        instant.replace(tzinfo=None) for instant in islice(cron.times_after(start.replace(tzinfo=UTC)), 5)
    ] == theirs
    back = list(islice(CronSim(cron.expression, start, reverse=True), 5))
    assert [instant.replace(tzinfo=None) for instant in islice(cron.times_before(start.replace(tzinfo=UTC)), 5)] == back


@pytest.mark.parametrize("zone", sorted(CHANGES))
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/30 * * * *", "0 0 * * *", "0 9 1 * *"])
def test_years_are_counted_as_they_are_gone_through(expression: str, zone: str) -> None:
    cron = Cron.parse(expression, zone)
    after, until = utc("2010-05-05T05:05"), utc("2013-11-11T11:11")
    existing = list(cron.times_between(after, until))
    assert cron.count_between(after, until) == len(existing)
    assert list(takewhile(lambda instant: instant > after, cron.times_before(until + MINUTE))) == existing[::-1]


# Named cases, one for each rule.


def test_a_time_that_the_clocks_skip_comes_when_the_gap_ends() -> None:
    assert day("30 2 * * *", "Europe/Berlin", "2026-03-29") == ["03:00 +0200"]
    assert day("30 2 * * *", "America/New_York", "2026-03-08") == ["03:00 -0400"]
    assert day("15 2 * * *", "Australia/Lord_Howe", "2026-10-04") == ["02:30 +1100"]
    assert day("0 0 * * *", "Africa/Cairo", "2026-04-24") == ["01:00 +0300"]


def test_times_that_meet_at_the_end_of_a_gap_come_once() -> None:
    assert day("0 2,3 * * *", "Europe/Berlin", "2026-03-29") == ["03:00 +0200"]
    assert day("5,10 2 * * *", "Europe/Berlin", "2026-03-29") == ["03:00 +0200"]


def test_a_time_that_is_repeated_comes_the_first_time_only() -> None:
    assert day("30 2 * * *", "Europe/Berlin", "2026-10-25") == ["02:30 +0200"]
    assert day("0 2,3 * * *", "Europe/Berlin", "2026-10-25") == ["02:00 +0200", "03:00 +0100"]
    assert day("45 1 * * *", "Australia/Lord_Howe", "2026-04-05") == ["01:45 +1100"]


def test_from_within_the_repeated_hour_the_first_pass_is_over() -> None:
    second_pass = utc("2026-10-25T01:10")  # 02:10 for the second time
    cron = Cron.parse("30 2 * * *", "Europe/Berlin")
    assert local(islice(cron.times_after(second_pass), 1), "Europe/Berlin") == ["2026-10-26 02:30 +0100"]
    assert local(islice(cron.times_before(second_pass), 1), "Europe/Berlin") == ["2026-10-25 02:30 +0200"]


def test_every_hour_comes_as_often_as_the_day_has_hours() -> None:
    assert len(day("0 * * * *", "Europe/Berlin", "2026-10-25")) == 25
    assert len(day("0 * * * *", "Europe/Berlin", "2026-03-29")) == 23
    assert len(day("*/15 * * * *", "Australia/Lord_Howe", "2026-04-05")) == 98
    assert len(day("*/15 * * * *", "Australia/Lord_Howe", "2026-10-04")) == 94


def test_a_rhythm_is_not_made_up_for_and_comes_again_in_a_repeated_hour() -> None:
    assert day("*/15 2 * * *", "Europe/Berlin", "2026-03-29") == []
    assert len(day("*/15 2 * * *", "Europe/Berlin", "2026-10-25")) == 8
    assert day("*/15 2 * * *", "Australia/Lord_Howe", "2026-10-04") == ["02:30 +1100", "02:45 +1100"]
    assert day("*/30 3 * * *", "Australia/Lord_Howe", "2026-10-04") == ["03:00 +1100", "03:30 +1100"]
    assert day("*/30 0 * * *", "Africa/Cairo", "2026-04-24") == []


def test_a_day_that_is_left_out_comes_when_the_next_begins() -> None:
    cron = Cron.parse("0 12 * * *", "Pacific/Apia")
    result = local(islice(cron.times_after(utc("2011-12-29T00:00")), 3), "Pacific/Apia")
    assert result == ["2011-12-29 12:00 -1000", "2011-12-31 00:00 +1400", "2011-12-31 12:00 +1400"]
    midnights = Cron.parse("0 0 * * *", "Pacific/Apia")
    result = local(islice(midnights.times_after(utc("2011-12-29T12:00")), 2), "Pacific/Apia")
    assert result == ["2011-12-31 00:00 +1400", "2012-01-01 00:00 +1400"]


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 L * *", ["01-31", "02-29", "03-31"]),
        ("0 0 LW * *", ["01-31", "02-29", "03-29"]),
        ("0 0 * * FRI#2", ["01-12", "02-09", "03-08"]),
        ("0 0 * * 5L", ["01-26", "02-23", "03-29"]),
        ("0 0 13 * FRI", ["01-05", "01-12", "01-13"]),  # either
        ("0 0 */2 * FRI", ["01-05", "01-19", "02-09"]),  # both
        ("0 0 29 FEB *", ["02-29"]),
        ("0 0 * * 7", ["01-07", "01-14", "01-21"]),
    ],
)
def test_days(expression: str, days: list[str]) -> None:
    result = Cron.parse(expression).times_between(utc("2023-12-31T12:00"), utc("2025-01-01T00:00"))
    assert [f"{instant:%m-%d}" for instant in islice(result, len(days))] == days


def test_what_is_rare_is_found_all_the_same() -> None:
    assert next(Cron.parse("0 0 * 2 MON#5").times_after(utc("2017-01-01T00:00"))) == utc("2044-02-29T00:00")
    assert next(Cron.parse("0 0 29 2 *").times_before(utc("2026-01-01T00:00"))) == utc("2024-02-29T00:00")


def test_the_past_ends_in_1970() -> None:
    assert list(Cron.parse("0 0 1 1 *").times_before(utc("1972-06-01T00:00"))) == [
        utc("1972-01-01T00:00"),
        utc("1971-01-01T00:00"),
        utc("1970-01-01T00:00"),
    ]


def test_years_of_minutes_cost_next_to_nothing() -> None:
    cron = Cron.parse("* * * * *", "Europe/Berlin")
    after, until = utc("2000-01-01T00:00"), utc("2026-01-01T00:00")
    assert cron.count_between(after, until) == (until - after) // MINUTE
    assert next(cron.times_before(until)) == until - MINUTE


def test_an_instant_may_be_of_any_zone_and_times_are_in_utc() -> None:
    existing = datetime(2026, 6, 1, 12, tzinfo=ZoneInfo("Asia/Tokyo"))
    scheduled_at = next(Cron.parse("0 2 * * *", "Europe/Berlin").times_after(existing))
    assert scheduled_at == utc("2026-06-02T00:00")
    assert scheduled_at.tzinfo is UTC
    assert date(2026, 6, 2) == scheduled_at.date()
