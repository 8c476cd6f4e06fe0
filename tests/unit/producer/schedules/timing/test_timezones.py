"""Zones: their names, and where their clocks are changed."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from models.errors import UsageError
from producer.schedules.timing import timezones

JUNE = datetime(2026, 6, 15, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("europe/berlin", "is Europe/Berlin meant?"),
        ("Berlin", "is Europe/Berlin meant?"),
        ("Europe/Berln", "is Europe/Berlin meant?"),
        ("New York", "is America/New_York meant?"),
        ("../etc/passwd", "take a name"),
        ("/usr/share/zoneinfo/UTC", "take a name"),
        ("", "take a name"),
        ("\0", "take a name"),
    ],
)
def test_an_unknown_zone_is_refused_with_a_near_one(text: str, meant: str) -> None:
    with pytest.raises(UsageError) as raised:
        timezones.check_timezone(text)
    assert "there is no time zone" in str(raised.value)
    assert meant in str(raised.value)


def test_stretches_follow_each_other_without_a_hole() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    ahead = list(islice(timezones.intervals_from(berlin, JUNE), 8))
    assert ahead[0].start == JUNE
    assert all(item.end == next_one.start for item, next_one in pairwise(ahead))
    back = list(islice(timezones.intervals_back_from(berlin, ahead[-1].end), 8))[::-1]
    assert back[0].end == ahead[0].end
    assert back[1:] == ahead[1:]


def test_a_stretch_knows_what_the_clocks_had_come_to() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    summer, winter, _, spring = islice(timezones.intervals_from(berlin, JUNE), 4)
    assert summer.offset == timedelta(hours=2)
    assert summer.wall_reached == summer.wall_start == datetime(2026, 6, 15, 14, 30)
    assert (winter.wall_reached, winter.wall_start) == (datetime(2026, 10, 25, 3), datetime(2026, 10, 25, 2))
    assert (spring.wall_reached, spring.wall_start) == (datetime(2027, 3, 28, 2), datetime(2027, 3, 28, 3))


def test_within_a_repeated_hour_it_is_still_known() -> None:
    repeated = datetime(2026, 10, 25, 1, 20, tzinfo=UTC)
    stretch = next(timezones.intervals_from(ZoneInfo("Europe/Berlin"), repeated))
    assert (stretch.wall_start, stretch.wall_reached) == (datetime(2026, 10, 25, 2, 20), datetime(2026, 10, 25, 3))


def test_what_a_gap_leaves_out_is_when_it_ends() -> None:
    gap = datetime(2026, 3, 29, 1, tzinfo=UTC)
    stretch = next(timezones.intervals_from(ZoneInfo("Europe/Berlin"), gap))
    assert stretch.to_instant(datetime(2026, 3, 29, 2, 30)) == gap
    assert stretch.to_instant(datetime(2026, 3, 29, 3, 30)) == gap + timedelta(minutes=30)
