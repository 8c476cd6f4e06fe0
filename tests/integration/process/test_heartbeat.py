"""The heartbeat on both databases: renews, shows that the process lives, and sees to what dead ones left."""

import os
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from models.db import Database
from models.errors import DatabaseRefused, Unreachable
from models.tables.workers import Worker
from producer.workers.workers import list_workers
from tests.factories.batch_rows import (
    LEASE_SECONDS,
    claimant_for,
    execute,
    expire_leases,
    get_slice,
    get_unanswered_jobs,
    insert_batch,
)
from tests.servers import wait_until
from worker.leasing import reclaim
from worker.leasing.claiming import claims
from worker.leasing.leases import HeldLeases, Lease
from worker.process.heartbeat import STALE_WORKER_SECONDS, Heartbeat

SLICE = 4  # jobs in a slice, as insert_batch cuts them
BEAT, DUTY = 5.0, 2.0  # seconds


@pytest.fixture
def holdings() -> HeldLeases:
    return HeldLeases()


@pytest.fixture
def make(database: Database, holdings: HeldLeases) -> Iterator[Callable[..., Heartbeat]]:
    """Makes heartbeats, and stops the ones that were started."""
    heartbeats: list[Heartbeat] = []

    def make(worker_id: str = "worker-1", **options: Any) -> Heartbeat:
        fields = {"lease_seconds": LEASE_SECONDS, "heartbeat_seconds": BEAT, **options}
        heartbeats.append(Heartbeat(database, holdings, {"reviews": "hash"}, **fields))
        heartbeats[-1].record_ready(claimant_for(worker_id), "cpu")
        return heartbeats[-1]

    yield make
    for heartbeat in heartbeats:
        if heartbeat._thread.is_alive():
            heartbeat.stop()


@pytest.fixture
def heartbeat(make: Callable[..., Heartbeat]) -> Heartbeat:
    """A heartbeat whose thread does not run: the tests call `run_once`."""
    return make()


def fail_unreachable() -> Any:
    raise Unreachable("the database is away")


def workers(database: Database) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(select(Worker.__table__).order_by(Worker.id)))


def set_heartbeat(database: Database, worker_id: str, time: datetime) -> None:
    with database.write() as connection:
        connection.execute(update(Worker).where(Worker.id == worker_id).values(heartbeat_at=time))


def hold(database: Database, holdings: HeldLeases) -> list[Lease]:
    leases = claims.claim(database, claimant_for(), 1000, SLICE)
    holdings.add(leases, get_unanswered_jobs(database, leases))
    return leases


class TestWorkerRow:
    def test_appears_at_the_start_and_goes_at_the_stop(
        self, database: Database, make: Callable[..., Heartbeat]
    ) -> None:
        heartbeat = make()

        heartbeat.start()
        [row] = workers(database)
        heartbeat.stop()

        assert (row.id, row.host, row.pid) == ("worker-1", socket.gethostname(), os.getpid())
        assert (row.pipeline, row.model, row.revision, row.device, row.state) == (
            "reviews",
            "made/model",
            "a" * 40,
            "cpu",
            "ready",
        )
        assert abs(row.heartbeat_at - datetime.now(UTC)) < timedelta(minutes=1)
        assert workers(database) == []

    @pytest.mark.parametrize(("guards", "stored"), [({"reviews": ("b", "a")}, {"reviews": ["b", "a"]}), ({}, None)])
    def test_has_the_names_of_the_guards(
        self,
        database: Database,
        make: Callable[..., Heartbeat],
        guards: dict[str, tuple[str, ...]],
        stored: dict[str, list[str]] | None,
    ) -> None:
        make(guards={**guards, "unguarded": ()})

        assert workers(database)[0].guards == stored
        [view] = list_workers(database, LEASE_SECONDS)
        assert view.missing_guards("reviews", ["a", "c"]) == ({"c"} if guards else {"a", "c"})

    def test_beats(self, database: Database, heartbeat: Heartbeat) -> None:
        heartbeat.run_once()
        long_ago = datetime.now(UTC) - timedelta(seconds=STALE_WORKER_SECONDS - 600)
        set_heartbeat(database, "worker-1", long_ago)

        heartbeat.run_once()

        assert workers(database)[0].heartbeat_at > long_ago + timedelta(minutes=30)

    def test_is_written_anew_after_it_was_pruned(self, database: Database, heartbeat: Heartbeat) -> None:
        heartbeat.run_once()
        execute(database, "DELETE FROM workers")

        heartbeat.run_once()

        assert [row.id for row in workers(database)] == ["worker-1"]

    def test_of_a_worker_long_gone_is_pruned(self, database: Database, make: Callable[..., Heartbeat]) -> None:
        for name, silent in (("gone", STALE_WORKER_SECONDS + 60), ("silent", STALE_WORKER_SECONDS - 60)):
            make(name).run_once()
            set_heartbeat(database, name, datetime.now(UTC) - timedelta(seconds=silent))

        make("worker-1").run_once()

        assert [row.id for row in workers(database)] == ["silent", "worker-1"]


class TestLeases:
    def test_are_renewed(self, database: Database, holdings: HeldLeases, heartbeat: Heartbeat) -> None:
        insert_batch(database, 8)
        leases = hold(database, holdings)
        expire_leases(database, *leases)

        heartbeat.run_once()

        for lease in leases:
            row = get_slice(database, lease)
            assert row.state == "leased"
            assert row.lease_expires_at > datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS / 2)
        assert holdings.leases() == leases

    def test_that_were_lost_are_dropped(self, database: Database, holdings: HeldLeases, heartbeat: Heartbeat) -> None:
        insert_batch(database, 8)
        lost, held = hold(database, holdings)
        expire_leases(database, lost)
        reclaim.reclaim_expired(database, 3)
        claims.claim(database, claimant_for("worker-2"), 1, SLICE)

        heartbeat.run_once()

        assert holdings.leases() == [held]
        assert get_slice(database, lost).worker_id == "worker-2"

    def test_claimed_again_after_a_loss_are_kept(
        self, database: Database, holdings: HeldLeases, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        insert_batch(database, 4)
        [old] = hold(database, holdings)
        expire_leases(database, old)
        reclaim.reclaim_expired(database, 3)
        renewing = claims.renew
        monkeypatch.setattr(  # the claim thread comes between the renewal and what the heartbeat makes of it
            claims, "renew", lambda *arguments: (renewing(*arguments), holdings.add([newer], ()))[0]
        )
        [newer] = claims.claim(database, claimant_for(), 1, SLICE)

        heartbeat.run_once()

        assert holdings.leases() == [newer]


class TestLoop:
    def test_beats_by_itself_and_outlives_an_outage(
        self, database: Database, holdings: HeldLeases, make: Callable[..., Heartbeat], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        insert_batch(database, 4)
        leases = hold(database, holdings)
        heartbeat = make(heartbeat_seconds=0.02)
        outages: list[int] = []

        def count_and_be_away() -> Any:
            outages.append(1)
            fail_unreachable()

        heartbeat.start()
        with monkeypatch.context() as patch:
            patch.setattr(database, "write", count_and_be_away)
            wait_until(lambda: len(outages) >= 3, "three beats without a database")
            before = get_slice(database, leases[0]).lease_expires_at

        wait_until(lambda: get_slice(database, leases[0]).lease_expires_at > before, "the lease to be renewed")
        heartbeat.stop()
        assert workers(database) == []

    def test_stops_even_when_the_database_is_away(
        self, database: Database, make: Callable[..., Heartbeat], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heartbeat = make()
        heartbeat.start()

        with monkeypatch.context() as patch:
            patch.setattr(database, "write", fail_unreachable)
            heartbeat.stop()

        assert not heartbeat._thread.is_alive()
        assert len(workers(database)) == 1, "its row goes stale by itself"

    def test_tells_of_a_refusal_once_it_is_refused(self, database: Database, make: Callable[..., Heartbeat]) -> None:
        """Such as where its table is another by now: leases can't be renewed any more."""
        refusals: list[DatabaseRefused] = []
        heartbeat = make(on_refusal=refusals.append)
        execute(database, "ALTER TABLE workers RENAME COLUMN heartbeat_at TO beat_at")

        heartbeat.start()

        wait_until(lambda: refusals, "a refusal")
        heartbeat._stopping.set()
        assert "heartbeat_at" in str(refusals[0])
