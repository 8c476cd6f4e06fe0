from datetime import UTC, datetime, timedelta
from typing import Any

from producer.schedules.definition import ScheduleDefinition
from producer.server.pages.frame import rendering

IMPORT = "{% from 'macros/charts.html' import series, bars, sparkline, histogram %}"
HOSTILE = '<script>alert("1")</script>'
START = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def write(template: str, **values: Any) -> str:
    """Return what a template that uses the macros writes."""
    return rendering.environment().from_string(IMPORT + template).render(**values)


def test_a_series_stands_in_the_page_as_a_table() -> None:
    times = [START, START + timedelta(minutes=1)]

    html = write("{{ series('pace', 'Pace', 'jobs/s', times, lines) }}", times=times, lines={"reviews": [1500, None]})

    assert '<td class="num" data-value="1500">1,500</td>' in html
    assert '<td class="num" data-value="">–</td>' in html  # noqa: RUF001
    assert 'datetime="2026-11-30T12:01:00Z"' in html


def test_a_series_of_a_schedule_has_the_times_of_its_zone() -> None:
    definition = ScheduleDefinition.from_fields(
        "nightly", {"pipeline": "p", "cron": "0 2 * * *", "file": "{time:%Y-%m-%d}.csv", "tz": "Asia/Kolkata"}
    )

    html = write(
        "{{ series('rows', 'Rows', 'rows', times, {'rows': [1]}, definition=definition) }}",
        times=[START],
        definition=definition,
    )

    assert 'data-zone="Asia/Kolkata"' in html
    assert "Mon 2026-11-30 17:30 IST" in html
    assert '<span class="muted">rows</span>' not in html, "the title has the unit already"


def test_a_series_escapes_its_names() -> None:
    html = write("{{ series('pace', name, 'jobs/s', times, [(name, [1])]) }}", times=[START], name=HOSTILE)

    assert "<script" not in html
    assert 'alert("' not in html


def test_bars_show_shares_and_cut_long_labels() -> None:
    items = [
        {"label": HOSTILE, "count": 3, "share": 0.75, "address": "/batches?x=1&y=2"},
        {"label": "x" * 10_000, "count": 1, "share": 0.25, "tone": "bad"},
    ]

    html = write("{{ bars(items, 'Labels') }}", items=items)

    assert "75.0 %" in html
    assert 'href="/batches?x=1&amp;y=2"' in html
    assert "<script" not in html
    assert len(html) < 3_000


def test_a_sparkline_leaves_out_what_is_missing() -> None:
    html = write("{{ sparkline([0, none, 4], 'three runs') }}")

    assert 'points="0.0,23.0 100.0,1.0 "' in html
    assert 'aria-label="three runs"' in html


def test_figures_without_values_are_empty() -> None:
    html = write("{{ sparkline([], 'nothing') }}{{ histogram([], 'Lengths', 'characters') }}{{ bars([], 'Labels') }}")

    assert "points=" in html


def test_a_histogram_names_its_buckets() -> None:
    buckets = [{"low": 0, "high": 10, "count": 4}, {"low": 10, "high": 20, "count": 0}]

    html = write("{{ histogram(buckets, 'Lengths', 'characters') }}", buckets=buckets)

    assert "<title>0 to 10 characters: 4 jobs</title>" in html
    assert 'height="39.00"' in html
