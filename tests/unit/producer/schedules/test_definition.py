"""What a schedule may say, what is said of one that can't be, and what is kept of it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from models import tasks
from models.errors import UsageError
from models.pipelines.builtin import BUILTIN_PIPELINES
from producer.readers import FILE_FORMATS
from producer.schedules.definition import ScheduleDefinition
from producer.submission.request import FailureLimit

SENTIMENT = next(entry for entry in BUILTIN_PIPELINES if entry.task == "sentiment-analysis")
NIGHTLY: dict[str, Any] = {"pipeline": SENTIMENT.name, "cron": "0 2 * * *", "tz": "Europe/Berlin", "sql": "tickets"}
FILES = {**{key: value for key, value in NIGHTLY.items() if key != "sql"}, "file": "/in/{time:%Y-%m-%d}.jsonl"}
EVERYTHING: dict[str, Any] = {
    **NIGHTLY,
    "bind": {"region": "eu", "most": 5, "all": None},
    "input": {"text": "body"},
    "id": "ticket",
    "passthrough": ("region",),
    "params": {"top_k": 2},
    "metadata": {"team": "care"},
    "priority": 5,
    "on_invalid": "reject",
    "max_failures": "2%",
    "reuse": True,
    "catchup": "all",
    "catchup_window": "3d",
    "overlap": "queue",
    "deadline": "06:00",
    "source_timeout": "30m",
    "lag": "5m",
    "since": "2026-11-01T00:00:00",
    "into": "ticket_labels",
    "into_source": "tickets",
    "alert_drift": 0.2,
    "webhook": "https://hooks.example.com/x",
}
SCHEDULED_AT = datetime(2026, 11, 24, 1, tzinfo=UTC)


def test_little_needs_to_be_said() -> None:
    schedule = ScheduleDefinition.from_fields("nightly-tickets", NIGHTLY)

    assert (schedule.catchup, schedule.max_catchup_age) == ("latest", timedelta(days=1))
    assert (schedule.overlap, schedule.max_source_wait, schedule.lag_duration) == (
        "skip",
        timedelta(hours=1),
        timedelta(),
    )
    assert schedule.initial_since == datetime(1970, 1, 1, tzinfo=UTC)
    assert schedule.deadline_for(SCHEDULED_AT) is None
    assert next(schedule.timetable.times_after(SCHEDULED_AT)) == SCHEDULED_AT + timedelta(days=1)


@pytest.mark.parametrize("text", [NIGHTLY, FILES, EVERYTHING])
def test_it_is_stored_and_comes_back(text: dict[str, Any]) -> None:
    schedule = ScheduleDefinition.from_fields("nightly", text)
    row = json.loads(json.dumps(schedule.dump()))

    assert ScheduleDefinition.from_fields("nightly", row) == schedule
    assert ScheduleDefinition.from_fields("nightly", row).dump() == row
    assert "name" not in row


def test_what_is_said_as_it_would_be_is_the_same_as_what_is_not_said() -> None:
    assert (
        ScheduleDefinition.from_fields("a", {**NIGHTLY, "catchup": "latest", "lag": "0s"}).dump()
        == ScheduleDefinition.from_fields("a", NIGHTLY).dump()
    )


def test_everything_has_its_effect() -> None:
    schedule = ScheduleDefinition.from_fields("nightly", EVERYTHING)
    assert schedule.initial_since == datetime(2026, 10, 31, 23, tzinfo=UTC)  # by the zone's clocks
    assert schedule.deadline_for(SCHEDULED_AT) == datetime(2026, 11, 24, 5, tzinfo=UTC)
    assert (schedule.max_source_wait, schedule.lag_duration) == (timedelta(minutes=30), timedelta(minutes=5))
    columns = schedule.columns_for(SENTIMENT.spec)
    assert (columns.id_columns, columns.passthrough, columns.fields[0][:2]) == (
        ("ticket",),
        ("region",),
        ("text", "body"),
    )


def test_a_run_s_request_says_of_which_time_it_is() -> None:
    request = ScheduleDefinition.from_fields("nightly", EVERYTHING).request_for(SENTIMENT, SCHEDULED_AT)

    assert request.name == "nightly 2026-11-24 02:00"
    assert request.metadata == {"team": "care", "schedule": "nightly", "scheduled_at": "2026-11-24T01:00:00+00:00"}
    assert (request.priority, request.keep_invalid) == (5, False)
    assert request.max_failures == FailureLimit(share=0.02)
    assert request.parameters == {"top_k": 2}
    assert request.deadline is None  # a late run is told of, not broken off
    assert request.idempotency_key is None
    assert request.reuse
    assert ScheduleDefinition.from_fields("nightly", NIGHTLY).request_for(SENTIMENT, SCHEDULED_AT).keep_invalid
    assert ScheduleDefinition.from_fields("nightly", NIGHTLY).request_for(SENTIMENT, SCHEDULED_AT).reuse is False


def test_numbers_may_stand_where_toml_has_them() -> None:
    assert ScheduleDefinition.from_fields("a", {**NIGHTLY, "max_failures": 20}).max_failures == "20"


def test_short_names_of_times_are_spelled_out() -> None:
    assert ScheduleDefinition.from_fields("a", {**NIGHTLY, "cron": "@daily"}).cron == "0 0 * * *"


def test_the_kinds_of_files_are_the_readers_own() -> None:
    annotation = ScheduleDefinition.model_fields["format"].annotation
    assert get_args(get_args(annotation)[0]) == FILE_FORMATS
    odd = {**FILES, "file": "/in/{time:%Y-%m-%d}"}
    with pytest.raises(UsageError, match="does not say by its name"):
        ScheduleDefinition.from_fields("a", odd)
    assert ScheduleDefinition.from_fields("a", {**odd, "format": "csv"}).format == "csv"


@pytest.mark.parametrize("name", ["", "Nightly", "-a", "a b", "a/b", "a" * 64, "a\n", "\0"])
def test_a_name_is_short_and_plain(name: str) -> None:
    with pytest.raises(UsageError, match="a name has small letters"):
        ScheduleDefinition.from_fields(name, NIGHTLY)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cron": "0 25 * * *"}, "bad hour"),
        ({"cron": "* * * * * *"}, "6 fields"),
        ({"tz": "Europe/Berln"}, "is Europe/Berlin meant"),
        ({"file": "/in/{time:%Y-%m-%d}.jsonl"}, "sql or file, one of them"),
        ({"sql": None}, "sql or file, one of them"),
        ({"format": "csv"}, "format is of files"),
        ({"column_names": "text,label"}, "column names are for CSV and TSV files; leave them out"),
        ({"column_names": ["text", "text"]}, "column_names: the column name 'text' is given twice"),
        ({"into_source": "x"}, "name that with into"),
        ({"metadata": {"scheduled_at": "x"}}, "metadata 'scheduled_at' is what the schedule writes"),
        ({"bind": {"since": "2020-01-01"}}, "bind 'since' is what the schedule binds"),
        ({"bind": {"region": ["eu"]}}, "bind"),
        ({"max_failures": "many"}, "max_failures 'many' is not a number"),
        ({"on_invalid": "ignore"}, "on_invalid must be reject or fail-row"),
        ({"catchup": "some"}, "catchup must be latest, all or none"),
        ({"overlap": "maybe"}, "overlap must be"),
        ({"catchup_window": "long"}, "catchup_window: 'long' is not an age"),
        ({"source_timeout": "-1h"}, "source_timeout: "),
        ({"lag": "x"}, "lag: "),
        ({"deadline": "noon"}, "deadline 'noon' is none of these"),
        ({"since": "yesterday"}, "since: "),
        ({"into": "results"}, "into: results is reserved"),
        ({"into": "a; DROP TABLE x"}, "into: "),
        ({"alert_drift": 1.5}, "alert_drift must be"),
        ({"alert_drift": 0}, "alert_drift must be"),
        ({"alert_drift": float("nan")}, "alert_drift must be"),
        ({"webhook": "http://example.com"}, "is not https"),
        ({"corn": "0 2 * * *"}, "there is no field 'corn'; is cron meant?"),
        ({"zzz": 1}, "there is no field 'zzz'; it takes: name, pipeline"),
        ({"params": {"x": "\0"}}, "NUL character"),
        ({"passthrough": ["\ud800"]}, "surrogate"),
        ({"params": {"x": float("inf")}}, "number in it is none"),
        ({"params": {"x": "y" * 70_000}}, "at most 65,536"),
    ],
)
def test_one_sentence_names_what_is_wrong(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        ScheduleDefinition.from_fields("nightly", {**NIGHTLY, **fields})
    sentence = str(raised.value)
    assert sentence.startswith("schedule 'nightly': ")
    assert message in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"column_names": "text"}, "column names are for CSV and TSV, and the file is read as jsonl"),
        ({"format": "text", "column_names": "text"}, "is read as text"),
        ({"file": "/in/all.jsonl"}, r"has no \{time:…\} in it"),
        ({"cron": "0 * * * *"}, "is the same for the runs of"),
        ({"bind": {"a": 1}}, "bind, since and lag are of queries"),
        ({"since": "2026-01-01"}, "bind, since and lag are of queries"),
        ({"lag": "1m"}, "bind, since and lag are of queries"),
    ],
)
def test_files_have_rules_of_their_own(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ScheduleDefinition.from_fields("nightly", {**FILES, **fields})


def test_pipeline_and_cron_must_be_said() -> None:
    for missing, message in (("pipeline", "pipeline is missing"), ("cron", "say when it runs: cron, or after")):
        with pytest.raises(UsageError, match=f"schedule 'a': {message}"):
            ScheduleDefinition.from_fields("a", {key: value for key, value in NIGHTLY.items() if key != missing})


def test_columns_are_checked_against_the_task() -> None:
    with pytest.raises(UsageError, match="has no input 'body'"):
        ScheduleDefinition.from_fields("a", {**NIGHTLY, "input": {"body": "text"}}).columns_for(
            tasks.find_spec("sentiment-analysis")
        )
