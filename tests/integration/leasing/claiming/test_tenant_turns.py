"""Tenants take turns: no one waits behind all the work of another, whatever priority that has."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from models.db import Database
from models.states import JobOutcome
from producer.batches.actions import retry
from producer.batches.actions.retry import RetrySelection
from tests.factories.batch_rows import PIPELINE, claimant_for, execute, insert_batch, update_batch
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.claiming.tenant_turns import order_turns
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import Lease

SLICE = 4
TURNS = "SELECT tenant, served_jobs FROM tenant_turns WHERE pipeline = :pipeline ORDER BY tenant"


def insert(database: Database, tenant: str, jobs: int, *, slice_size: int = SLICE, priority: int = 0) -> str:
    return insert_batch(database, jobs, slice_size=slice_size, tenant=tenant, priority=priority)


def claim_tenants(database: Database, room: int = 1, slice_size: int = SLICE) -> Iterator[Counter[str]]:
    """Claim until nothing is left; the jobs of each tenant, claim by claim."""
    with database.read() as connection:
        tenants = dict(connection.execute(text("SELECT id, tenant FROM batches")).all())
    while leases := claims.claim(database, claimant_for(), room, slice_size):
        jobs: Counter[str] = Counter()
        for lease in leases:
            jobs[tenants[lease.batch_id]] += lease.size
        yield jobs


def turns(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return dict(connection.execute(text(TURNS), {"pipeline": PIPELINE}).all())


class TestClaims:
    def test_of_a_large_and_a_later_small_tenant_alternate(self, database: Database) -> None:
        insert(database, "large", 10_000, slice_size=200)
        few = claims.claim(database, claimant_for(), 400, 200)
        insert(database, "small", 100, slice_size=20)

        claimed = list(itertools.islice(claim_tenants(database, 20, 20), 8))

        assert sum(lease.size for lease in few) == 400
        assert [dict(jobs) for jobs in claimed[:7]] == [
            {"large": 200},  # nobody was counted before, and names decide
            *[{"small": 20}] * 5,
            {"large": 200},
        ]

    def test_of_three_equal_tenants_advance_together(self, database: Database) -> None:
        for tenant in ("a", "b", "c"):
            insert(database, tenant, 40)
        served: Counter[str] = Counter(a=0, b=0, c=0)

        for jobs in claim_tenants(database, room=8):
            served.update(jobs)
            assert max(served.values()) - min(served.values()) <= 8

        assert served == {"a": 40, "b": 40, "c": 40}

    def test_fill_their_room_from_the_next_tenants(self, database: Database) -> None:
        for tenant in ("a", "b", "c"):
            insert(database, tenant, 8)

        [jobs, rest] = claim_tenants(database, room=16)

        assert (jobs, rest) == ({"a": 8, "b": 8}, {"c": 8})

    def test_follow_priorities_within_a_tenant_alone(self, database: Database) -> None:
        insert(database, "loud", 8, priority=5)
        loud = insert(database, "loud", 8, priority=100)
        insert(database, "modest", 4, priority=-100)

        order = [lease.batch_id for lease in claims.claim(database, claimant_for(), 8, SLICE)]
        [first, *_] = claim_tenants(database)

        assert order == [loud, loud]
        assert first == {"modest": 4}

    def test_pass_over_a_tenant_whose_slices_wait(self, database: Database) -> None:
        insert(database, "a", 400)
        execute(database, "UPDATE slices SET available_at = '2100-01-01 00:00:00+00:00'")
        own = insert(database, "b", 8)

        leases = claims.claim(database, claimant_for(), 100, SLICE)

        assert {lease.batch_id for lease in leases} == {own}

    def test_of_a_sparse_retry_count_what_runs_again(self, database: Database) -> None:
        batch_id = insert(database, "a", 32)
        failing = {1, 30}
        for lease in claims.claim(database, claimant_for(), 1_000, SLICE):
            results = [
                JobResult(lease, position, JobOutcome.FAILED, error_code="model_error")
                if position in failing
                else JobResult(lease, position, JobOutcome.SUCCEEDED, output="{}")
                for position in range(lease.start_position, lease.start_position + lease.size)
            ]
            with database.write() as connection:
                commit.commit_results(connection, BatchCommit([lease], results, {lease.slice_id}))
        retry.retry_jobs(database, batch_id, RetrySelection(), SLICE)
        insert(database, "b", SLICE)

        leases = claims.claim(database, claimant_for(), 1, SLICE)

        assert [(lease.batch_id, lease.size) for lease in leases] == [(batch_id, 30)]
        assert turns(database)["a"] == len(failing)

    def test_of_one_tenant_count_nothing(self, database: Database) -> None:
        insert(database, "a", 40)

        list(claim_tenants(database, room=8))

        assert turns(database) == {}

    def test_take_one_slice_each_from_many_tenants(self, database: Database) -> None:
        for number in range(60):
            insert(database, f"tenant-{number:02}", 1)

        [jobs] = claim_tenants(database, room=100)

        assert len(jobs) == 60


class TestReturn:
    def test_gives_no_credit_for_the_time_without_work(self, database: Database) -> None:
        for tenant in ("busy", "steady"):
            insert(database, tenant, 80)
        list(claim_tenants(database))
        for tenant in ("busy", "steady", "back"):
            insert(database, tenant, 40)

        first_claims = list(itertools.islice(claim_tenants(database), 9))

        claimed = Counter(tenant for jobs in first_claims for tenant in jobs)
        assert claimed["back"] <= 4
        assert min(claimed["busy"], claimed["steady"]) >= 2

    def test_does_not_wait_for_what_was_claimed_alone(self, database: Database) -> None:
        insert(database, "a", 400)
        for _ in itertools.islice(claim_tenants(database), 90):
            pass
        insert(database, "b", 40)

        first_claims = list(itertools.islice(claim_tenants(database), 6))

        assert Counter(tenant for jobs in first_claims for tenant in jobs) == {"a": 3, "b": 3}


class TestQuarantine:
    @pytest.fixture
    def crashing(self, database: Database) -> str:
        crashing = insert(database, "crashing", 1, priority=100)
        execute(database, "UPDATE slices SET crashes = 2")
        return crashing

    def test_does_not_go_before_the_work_of_others(self, database: Database, crashing: str) -> None:
        insert(database, "modest", 8)

        waiting = claims.next_quarantined(database, claimant_for())

        assert waiting is not None
        assert not waiting.goes_first
        assert waiting.waiting_seconds > 1e9
        [lease] = claims.claim(database, claimant_for(), 1, SLICE, from_quarantine=True)
        assert lease.batch_id == crashing

    def test_goes_first_within_its_tenant(self, database: Database, crashing: str) -> None:
        insert(database, "crashing", 8, priority=5)

        waiting = claims.next_quarantined(database, claimant_for())

        assert waiting is not None
        assert waiting.goes_first
        update_batch(database, crashing, priority=1)
        later = claims.next_quarantined(database, claimant_for())
        assert later is not None
        assert not later.goes_first

    def test_takes_turns_too(self, database: Database, crashing: str) -> None:
        for tenant in ("other", "crashing"):
            insert(database, tenant, 3, slice_size=1)
        execute(database, "UPDATE slices SET crashes = 2")

        claimed = [
            lease.batch_id
            for _ in range(4)
            for lease in claims.claim(database, claimant_for(), 1, SLICE, from_quarantine=True)
        ]

        with database.read() as connection:
            tenants = dict(connection.execute(text("SELECT id, tenant FROM batches")).all())
        assert [tenants[batch_id] for batch_id in claimed] == ["crashing", "other"] * 2


def test_claims_side_by_side_count_every_job_once(database: Database) -> None:
    """Workers claim from the same tenants at once: no one waits for ever, and no slice is leased twice."""
    for tenant in ("a", "b", "c"):
        for _ in range(4):
            insert(database, tenant, 20, slice_size=2)
    claimed: list[Lease] = []

    def work(worker: int) -> None:
        while leases := claims.claim(database, claimant_for(f"worker-{worker}"), 6, 2):
            claimed.extend(leases)

    with ThreadPoolExecutor(4) as workers:
        for finished in [workers.submit(work, number) for number in range(4)]:
            finished.result()

    assert len({lease.slice_id for lease in claimed}) == len(claimed) == 120
    counts = turns(database)
    # The last claims may have found a single tenant, which counts nothing; a floor may have lifted a tenant.
    assert counts.keys() == {"*", "a", "b", "c"}
    assert max(counts.values()) <= 80 + 4 * 6
    assert min(counts.values()) >= 80 - 4 * 6 - 6


def test_no_schedule_of_arrivals_lets_anyone_fall_behind() -> None:
    """Tenants come and go at random, and claims differ in size: who has work all along loses at most two claims."""
    rng = random.Random(7)
    served: dict[str, int] = dict.fromkeys("abcdef", 0)
    floor, since, queued = 0, dict.fromkeys("ab", 0), dict.fromkeys("ab", 10**9)
    for _ in range(2_000):
        for tenant in "cdef":
            if tenant not in queued and rng.random() < 0.05:
                queued[tenant] = rng.randrange(1, 500)
        first = order_turns({tenant: served[tenant] for tenant in queued}, floor)[0]
        size = min(queued[first.tenant], rng.randrange(1, 100))
        served[first.tenant], floor = first.start + size, max(floor, first.start)
        queued[first.tenant] -= size
        if not queued[first.tenant]:
            del queued[first.tenant]
        if first.tenant in since:
            since[first.tenant] += size
        assert abs(since["a"] - since["b"]) <= 200
