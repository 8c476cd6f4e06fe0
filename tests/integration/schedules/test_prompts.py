"""Schedules of pipelines with a prompt: the columns of a query become its fields."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from models.errors import UsageError
from models.guards.definition import Guard
from models.pipelines.catalogue import Catalogue
from producer.schedules.runs.planning import plan_schedule
from tests.factories.schedules import PIPELINE, ScheduleHarness, utc

FIRST_RUN = utc("03-02 02:00")
INPUT = {"ticket": "id", "body": "body"}


@pytest.fixture
def harness(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScheduleHarness]:
    monkeypatch.setenv("BATCHMILL_PIPELINES", json.dumps({PIPELINE: {"prompt": "{ticket}: {body}"}}))
    harness = ScheduleHarness(database_url, tmp_path)
    harness.tickets.insert_ticket(FIRST_RUN - timedelta(hours=3), "it broke")
    yield harness
    harness.close()


def test_a_run_reads_the_fields_of_the_prompt_and_writes_them_to_its_table(harness: ScheduleHarness) -> None:
    harness.create_schedule(input=INPUT, into="moods")

    harness.run_schedule(FIRST_RUN + timedelta(minutes=1))

    assert harness.run_states() == ["completed"]
    [row] = harness.query("SELECT * FROM moods")
    assert (row.id, row.ticket, row.body, row.label) == (1, "1", "it broke", "NEGATIVE")
    harness.assert_consistent()


def test_a_schedule_that_maps_a_field_that_the_prompt_lacks_is_refused(harness: ScheduleHarness) -> None:
    with pytest.raises(UsageError, match="has no input 'text'; it takes: ticket, body, text_pair"):
        harness.create_schedule(input={"text": "body"})


def test_a_run_is_read_by_the_template_with_which_it_was_planned(harness: ScheduleHarness) -> None:
    harness.create_schedule(input=INPUT)
    now = FIRST_RUN + timedelta(minutes=1)
    plan_schedule(harness.database, harness.catalogue, "nightly", now)
    changed = harness.catalogue[PIPELINE].model_copy(update={"prompt": "{other}"})
    harness.catalogue = Catalogue({PIPELINE: changed})

    harness.tick(now)

    assert harness.run_states() == ["running"]
    [job] = harness.query("SELECT input FROM jobs")
    stored = json.loads(job.input) if isinstance(job.input, str) else job.input
    assert stored == {"ticket": "1", "body": "it broke"}


def test_a_run_has_the_guards_of_the_time_at_which_its_source_is_read(harness: ScheduleHarness) -> None:
    harness.create_schedule(input=INPUT)
    now = FIRST_RUN + timedelta(minutes=1)
    plan_schedule(harness.database, harness.catalogue, "nightly", now)
    guards = {"late": Guard(on="input", action="flag", words=("forbidden",))}
    harness.catalogue = Catalogue({PIPELINE: harness.catalogue[PIPELINE].model_copy(update={"guards": guards})})

    harness.tick(now)

    query = "SELECT guarded, (SELECT guard FROM batch_guards WHERE batch_id = batches.id) AS guard FROM batches"
    [batch] = harness.query(query)
    assert (bool(batch.guarded), batch.guard) == (True, "late")
