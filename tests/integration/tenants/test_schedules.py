"""Schedules belong to a tenant, their batches too, and they follow schedules of the same tenant only."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from models.errors import NotFound, UsageError
from producer.batches import views
from producer.schedules import config_sync, registry, status
from producer.schedules.definition import ScheduleDefinition
from tests.factories.schedules import CREATED_AT, ScheduleHarness, utc

NIGHT = utc("03-02 02:00")


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    created.tickets.insert_ticket(utc("03-01 21:00"))
    yield created
    created.close()


def tenants(harness: ScheduleHarness) -> list[str]:
    """Of the batches, in the order of their ids."""
    return [batch.tenant for batch in reversed(views.list_batches(harness.database, 9))]


def test_the_batches_of_a_schedule_and_of_its_followers(harness: ScheduleHarness) -> None:
    harness.create_schedule(tenant="acme")
    harness.create_schedule("second", after="nightly", tenant="acme")

    harness.run_schedule(NIGHT)
    harness.run_schedule(NIGHT + timedelta(minutes=10))

    assert harness.run_states("second") == ["completed"]
    assert tenants(harness) == ["acme", "acme"]
    assert [view.tenant for view in registry.list_schedules(harness.database, "acme")] == ["acme", "acme"]
    assert status.list_statuses(harness.database, NIGHT, "other") == []
    harness.assert_consistent()


def test_another_tenant_s_schedule_is_like_none(harness: ScheduleHarness) -> None:
    harness.create_schedule(tenant="acme")

    with pytest.raises(UsageError) as theirs:
        harness.create_schedule("second", after="nightly", tenant="other")
    with pytest.raises(UsageError) as unknown:
        harness.create_schedule("second", after="unknown", tenant="other")
    with pytest.raises(NotFound):
        registry.get(harness.database, "nightly", "other")

    assert str(theirs.value) == str(unknown.value).replace("unknown", "nightly")
    assert [view.name for view in registry.list_schedules(harness.database)] == ["nightly"]


def test_sync_follows_the_same_rule(harness: ScheduleHarness) -> None:
    leader = {"pipeline": harness.pipeline, "cron": "0 2 * * *", "sql": "tickets", "tenant": "acme"}
    follower = {"pipeline": harness.pipeline, "after": "first"}
    definitions = {
        name: ScheduleDefinition.from_fields(name, fields) for name, fields in (("first", leader), ("second", follower))
    }

    with pytest.raises(UsageError, match="no schedule 'first' to run after"):
        config_sync.sync(harness.database, definitions, CREATED_AT)
    definitions["second"] = ScheduleDefinition.from_fields("second", {**follower, "tenant": "acme"})
    config_sync.sync(harness.database, definitions, CREATED_AT)

    assert [view.tenant for view in registry.list_schedules(harness.database)] == ["acme", "acme"]
    assert not config_sync.plan_sync(harness.database, definitions)


def test_its_tenant_can_t_change_with_its_history(harness: ScheduleHarness) -> None:
    definition = harness.create_schedule(tenant="acme")
    other = ScheduleDefinition.from_fields("nightly", {**definition.dump(), "tenant": "other"})

    with pytest.raises(UsageError, match="belong to the tenant acme"):
        registry.create(harness.database, other, CREATED_AT, replace=True)
    registry.delete(harness.database, "nightly", CREATED_AT)
    with pytest.raises(UsageError, match="belong to the tenant acme"):
        registry.create(harness.database, other, CREATED_AT)
    registry.delete(harness.database, "nightly", CREATED_AT, purge=True)
    registry.create(harness.database, other, CREATED_AT)

    assert registry.get(harness.database, "nightly").tenant == "other"


def test_a_tenant_s_name_is_checked(harness: ScheduleHarness) -> None:
    with pytest.raises(UsageError, match="no tenant's name"):
        harness.create_schedule(tenant="a b")


@pytest.mark.parametrize("gets_room", [True, False])
def test_without_room_a_run_waits_as_for_its_source(harness: ScheduleHarness, *, gets_room: bool) -> None:
    before = harness.settings
    harness.settings = before.model_copy(update={"tenants": {"acme": {"max_unanswered_jobs": 1}}})
    harness.tickets.insert_ticket(utc("03-01 22:00"))
    harness.create_schedule(tenant="acme", source_timeout="30m")

    for minutes in range(0, 60, 5):
        harness.tick(NIGHT + timedelta(minutes=minutes))
        if gets_room and minutes == 20:
            harness.settings = before

    [run] = harness.runs()
    assert run.state == ("running" if gets_room else "failed")
    assert gets_room or "tenant acme has 0 unanswered jobs and may have 1" in (run.error_message or "")
    assert harness.event_kinds() == (["waiting"] if gets_room else ["waiting", "failed"])
