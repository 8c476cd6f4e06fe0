"""Numbers as pages write them, at the borders of their units too."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from producer.server.pages.frame import formats
from producer.server.pages.frame.formats import MISSING
from producer.server.pages.frame.rendering import environment

MOMENT = datetime(2026, 3, 2, 1, 0, 5, 900_000, timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (formats.number, 1_234_567, "1,234,567"),
        (partial(formats.number, digits=2), 0.0, "0.00"),
        (partial(formats.number, digits=2), 0.004, "< 0.01"),
        (partial(formats.number, digits=2), 0.006, "0.01"),
        (formats.share, 0.0, "0 %"),
        (formats.share, 0.000_1, "< 0.1 %"),
        (formats.share, 0.123_4, "12.3 %"),
        (formats.share, 0.999_9, "> 99.9 %"),
        (formats.share, 1.0, "100 %"),
        (formats.rate, 0.0, "0.0 jobs/s"),
        (formats.rate, 0.5, "30.0 jobs/min"),
        (formats.rate, 0.95, "0.9 jobs/s"),
        (formats.rate, 1_375.4, "1,375 jobs/s"),
        (formats.rate_per_second, 0.0, "0.0 jobs/s"),
        (formats.rate_per_second, 0.001, "< 0.01 jobs/s"),
        (formats.rate_per_second, 0.5, "0.50 jobs/s"),
        (formats.rate_per_second, 0.95, "0.9 jobs/s"),
        (formats.rate_per_second, 1_375.4, "1,375 jobs/s"),
        (formats.duration, 0.0, "0.0 s"),
        (formats.duration, 0.000_1, "1 ms"),
        (formats.duration, 0.041, "41 ms"),
        (formats.duration, 0.096, "0.1 s"),
        (formats.duration, 9.94, "9.9 s"),
        (formats.duration, 9.96, "10 s"),
        (formats.duration, 59.4, "59 s"),
        (formats.duration, 59.7, "1 min"),
        (formats.duration, 200, "3 min 20 s"),
        (formats.duration, 3_599.6, "1 h"),
        (formats.duration, 7_500, "2 h 5 min"),
        (formats.duration, 86_400 * 3 + 4 * 3_600, "3 d 4 h"),
        (formats.size, 0, "0 B"),
        (formats.size, 999, "999 B"),
        (formats.size, 1_000, "1.0 kB"),
        (formats.size, 999_940, "999.9 kB"),
        (formats.size, 999_960, "1.0 MB"),
        (formats.size, 1_234_567_000_000_000, "1,234.6 TB"),
    ],
)
def test_numbers(write: Callable[[Any], str], value: float, text: str) -> None:
    assert write(value) == text


@pytest.mark.parametrize("name", sorted(formats.FILTERS.keys() - {"counted"}))
def test_what_is_missing_is_a_dash(name: str) -> None:
    assert environment().from_string(f"{{{{ none | {name} }}}}").render() == MISSING


def test_moments_are_in_utc() -> None:
    assert formats.moment(MOMENT) == '<time datetime="2026-03-02T00:00:05Z">2026-03-02 00:00:05 UTC</time>'


@pytest.mark.parametrize(
    ("elapsed", "text"),
    [
        (timedelta(seconds=-30), "0 s ago"),
        (timedelta(minutes=5, seconds=30), "5 min ago"),
        (timedelta(hours=5, minutes=30), "5 h ago"),
        (timedelta(days=2, hours=12), "2 d ago"),
    ],
)
def test_ages_are_in_the_largest_unit(elapsed: timedelta, text: str) -> None:
    assert f">{text}</time>" in formats.age(datetime.now(UTC) - elapsed)


def test_counts_have_their_noun() -> None:
    page = environment().from_string("{{ 1 | counted('job') }}, {{ 1234 | counted('job') }}")

    assert page.render() == "1 job, 1,234 jobs"
