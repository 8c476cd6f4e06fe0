"""The backlog on both databases: what it says a claimant could claim is what a claim takes."""

from typing import Any

import pytest

from models.db import Database
from tests.factories.batch_rows import PIPELINE, REVISION, claimant_for, execute, insert_batch
from worker.leasing.backlog import Backlog, ClaimableWork
from worker.leasing.claiming import claims


class TestHasWork:
    @pytest.mark.parametrize(
        ("batch", "claimant", "expected"),
        [
            ({}, {}, True),
            ({"revision": None}, {}, True),
            ({"revision": None}, {"can_begin_batches": False}, False),
            ({}, {"can_begin_batches": False}, True),
            ({"revision": "b" * 40}, {}, False),
            ({"task": "fill-mask"}, {}, False),
            ({"pipeline": "elsewhere"}, {}, False),
            ({"status": "validating"}, {}, False),
        ],
    )
    def test_for_a_claimant_that_could_claim_it(
        self, database: Database, batch: dict[str, Any], claimant: dict[str, Any], expected: bool
    ) -> None:
        insert_batch(database, 4, **batch)
        worker = claimant_for(**claimant)

        has_work = Backlog(database, {PIPELINE: ()}).has_work_for(worker)

        assert has_work is expected
        assert bool(claims.claim(database, worker, 1, 4)) is expected

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ("crashes = 2", True),
            ("available_at = '2100-01-01 00:00:00'", False),
            ("available_at = '2026-01-01 00:00:00'", True),
            ("state = 'leased'", False),
        ],
    )
    def test_in_slices_that_may_be_claimed_now(self, database: Database, change: str, expected: bool) -> None:
        insert_batch(database, 4)
        execute(database, f"UPDATE slices SET {change}")

        assert Backlog(database, {PIPELINE: ()}).has_work_for(claimant_for()) is expected


def test_a_recent_answer_is_not_asked_for_again(database: Database) -> None:
    backlog = Backlog(database, {PIPELINE: ()})
    assert backlog.recent(60.0) == []
    insert_batch(database, 4)

    assert backlog.recent(60.0) == []
    work = [ClaimableWork(PIPELINE, "sentiment-analysis", REVISION)]
    assert backlog.recent(-1.0) == work
    assert backlog.recent(60.0) == work
