"""Schedules against the pipelines and sources of a machine."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models.errors import UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.validation import find_shared_tables, find_warnings, validate

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SOURCES = {
    "tickets": {"url": "sqlite:///a.db", "query": "SELECT id, body FROM t WHERE at >= :since AND at < :until"},
    "regions": {
        "url": "sqlite:///a.db",
        "query": "SELECT id FROM t WHERE region = :region AND at < :since",
        "parameters": {"since": "2020-01-01"},
    },
    "all": {"url": "sqlite:///a.db", "query": "SELECT id, body FROM t"},
}
NIGHTLY: dict[str, Any] = {"pipeline": "sample-sentiment-analysis", "cron": "0 2 * * *", "sql": "tickets"}


@pytest.fixture
def settings() -> Settings:
    return Settings.load(sources=SOURCES)


def admit(settings: Settings, folder: Path | None = None, **fields: Any) -> ScheduleDefinition:
    text = {key: value for key, value in {**NIGHTLY, **fields}.items() if value is not None}
    return validate("nightly", text, settings, Catalogue.load(settings), folder)


def test_what_is_right_is_let_in(settings: Settings) -> None:
    schedule = admit(settings)
    assert schedule == ScheduleDefinition.from_fields("nightly", NIGHTLY)
    assert find_warnings(schedule, settings, NOW) == []
    admit(settings, sql="regions", bind={"region": "eu"})
    admit(settings, sql="all", overlap="allow")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pipeline": "nothing"}, "there is no pipeline 'nothing'"),
        ({"params": {"top": 1}}, "has no parameter 'top'"),
        ({"input": {"body": "x"}}, "has no input 'body'"),
        ({"priority": 5000}, "priority 5000 is out of range"),
        ({"metadata": {f"k{n}": "v" for n in range(15)}}, "metadata has 17 entries"),
        ({"bind": {"region": "eu"}}, "has no parameter 'region'; it has: since, until"),
        ({"sql": "regions"}, "needs region"),
        ({"overlap": "allow"}, "overlap: the source 'tickets' asks for :since"),
    ],
)
def test_one_sentence_names_what_is_wrong(settings: Settings, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        admit(settings, **fields)
    assert str(raised.value).startswith("schedule 'nightly': ")
    assert message in str(raised.value)


@pytest.mark.parametrize(("deadline", "warned"), [("2026-03-02 05:00", True), ("2026-03-03", False), ("06:00", False)])
def test_a_deadline_before_the_next_run_is_probably_unintended(
    settings: Settings, deadline: str, *, warned: bool
) -> None:
    schedule = admit(settings, deadline=deadline)

    assert [message[:42] for message in find_warnings(schedule, settings, NOW)] == [
        "the deadline 2026-03-02 05:00 comes before"
    ] * warned


def test_what_is_not_here_may_be_where_it_runs(settings: Settings) -> None:
    schedule = admit(settings, sql="elsewhere", into="labels", into_source="afar", webhook="https://example.com/x")

    assert [message.split(";")[0] for message in find_warnings(schedule, settings, NOW)] == [
        "there is no [sources.afar] here",
        "there is no [sources.elsewhere] here",
        "webhook_secret is not set here",
    ]
    signed = Settings.load(sources={**SOURCES, "afar": {}, "elsewhere": {}}, webhook_secret="canary")
    assert find_warnings(schedule, signed, NOW) == []
    assert "canary" not in f"{signed!r}{signed}{signed.model_dump()}"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"model": "/nothere"}, "[pipelines.mine] model: there is no folder /nothere"),
        ({"model": "bundled:sentiment-analysis", "max_length": 600}, "[pipelines.mine] max_length is 600"),
        ({"model": "bundled:sentiment-analysis"}, None),
    ],
)
def test_a_pipeline_that_can_not_work_here_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any], message: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(sources=SOURCES, pipelines={"mine": {"task": "sentiment-analysis", **entry}})

    warnings = find_warnings(admit(settings, pipeline="mine", sql="all", input={"text": "body"}), settings, NOW)

    assert [warning for warning in warnings if message is None or not warning.startswith(message)] == []
    assert bool(warnings) == (message is not None)


def test_a_file_is_found_from_wherever_it_runs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pattern = "in/{time:%Y-%m-%d}.jsonl"
    assert admit(settings, sql=None, file=pattern).file == str(tmp_path / pattern)
    assert admit(settings, Path("/data"), sql=None, file=pattern).file == f"/data/{pattern}"
    assert admit(settings, sql=None, file=f"s3://b/{pattern}").file == f"s3://b/{pattern}"


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({"pipeline": "sample-text-ranking"}, True),
        ({"params": {"prompt_name": "query"}}, True),
        ({}, False),
        ({"pipeline": "sample-text-ranking", "into": "other"}, False),
        ({"pipeline": "sample-text-ranking", "into": None}, False),
        ({"pipeline": "sample-text-ranking", "into_source": "tickets"}, False),
    ],
)
def test_two_pipelines_of_vectors_need_two_tables(settings: Settings, fields: dict[str, Any], *, warned: bool) -> None:
    vectors = {**NIGHTLY, "pipeline": "sample-feature-extraction", "into": "vectors"}
    first = ScheduleDefinition.from_fields("first", vectors)
    other = {key: value for key, value in {**vectors, **fields}.items() if value is not None}
    second, old_second = (ScheduleDefinition.from_fields("second", item) for item in (other, vectors))
    catalogue = Catalogue.load(settings)

    warnings = find_shared_tables([second], [first, old_second], catalogue)

    assert [warning.split(";")[0] for warning in warnings] == [
        "first and second write vectors of two pipelines or parameters into vectors, and each run would embed the "
        "other's rows again"
    ] * warned
    assert find_shared_tables([first, second], [], catalogue) == warnings
    assert find_shared_tables([ScheduleDefinition.from_fields("third", NIGHTLY)], [first, second], catalogue) == []
