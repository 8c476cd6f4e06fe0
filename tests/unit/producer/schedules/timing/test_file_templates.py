"""File names with the scheduled time in them: what they stand for, and all that they can't be made to say."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.errors import UsageError
from producer.schedules.timing import file_templates
from producer.schedules.timing.cron import Cron

NIGHTLY = Cron.parse("0 2 * * *", "Europe/Berlin")
SCHEDULED_AT = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)  # the 24th in Berlin


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("in/{time:%Y-%m-%d}.jsonl", "in/2026-11-24.jsonl"),
        ("{time:%Y}/{time:%m}/{time:%d}-*.csv.gz", "2026/11/24-*.csv.gz"),
        ("s3://b/{time:%Y/%j}/at-{time:%H:%M}.parquet", "s3://b/2026/328/at-00:30.parquet"),
        ("{{x}}-{time:%G-W%V-%u}.tsv", "{x}-2026-W48-2.tsv"),
    ],
)
def test_a_run_s_file_is_by_the_zone_s_clocks(pattern: str, name: str) -> None:
    assert file_templates.check_template(pattern, NIGHTLY) == pattern
    assert file_templates.render(pattern, SCHEDULED_AT, NIGHTLY) == name


@pytest.mark.parametrize(
    "pattern",
    [
        "{time.__class__}.jsonl",
        "{time.__class__.__init__.__globals__:%Y}.jsonl",
        "{time[0]:%Y}.jsonl",
        "{time!r:%Y}.jsonl",
        "{time:{time}}.jsonl",
        "{time:%Y{time:%m}}.jsonl",
        "{time}.jsonl",
        "{time:}.jsonl",
        "{time:today}.jsonl",
        "{time:%c}.jsonl",
        "{time:%s}.jsonl",
        "{time:%-d}.jsonl",
        "{time:%Z}.jsonl",
        "{time:%%}.jsonl",
        "{time:%Y%}.jsonl",
        "{0:%Y}.jsonl",
        "{:%Y}.jsonl",
        "{settings.webhook_secret}{time:%Y-%m-%d}.jsonl",
        "{since:%Y}.jsonl",
        "{time:%Y-%m-%d.jsonl",
        "time:%Y}.jsonl",
        "in/all.jsonl",
        "in/*.jsonl",
        "",
        "in/{time:%Y-%m-%d}\0.jsonl",
    ],
)
def test_nothing_but_a_time_s_numbers_can_stand_in_it(pattern: str) -> None:
    with pytest.raises(UsageError) as raised:
        file_templates.check_template(pattern, NIGHTLY)
    assert str(raised.value).startswith("file ")


@pytest.mark.parametrize(
    ("cron", "pattern"),
    [("0 * * * *", "{time:%Y-%m-%d}.csv"), ("0 2 * * *", "{time:%Y-%m}.csv"), ("0 2,14 * * *", "{time:%Y-%m-%d}.csv")],
)
def test_two_runs_must_not_share_a_file(cron: str, pattern: str) -> None:
    with pytest.raises(UsageError, match="is the same for the runs of"):
        file_templates.check_template(pattern, Cron.parse(cron))


def test_a_path_is_made_to_start_at_the_root(tmp_path: Path) -> None:
    folder = tmp_path / "odd [x] {y}"
    result = file_templates.make_absolute("in/{time:%Y-%m-%d}.jsonl", folder)

    assert file_templates.check_template(result, NIGHTLY) == result
    assert file_templates.render(result, SCHEDULED_AT, NIGHTLY) == f"{tmp_path}/odd [[]x] {{y}}/in/2026-11-24.jsonl"
    for remaining in ("/in/{time:%Y-%m-%d}.jsonl", "s3://in/{time:%Y-%m-%d}.jsonl"):
        assert file_templates.make_absolute(remaining, folder) == remaining
    assert file_templates.make_absolute("~/a.csv", folder) == str(Path.home() / "a.csv")
