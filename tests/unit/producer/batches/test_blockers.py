"""Which reason is shown for a guarded batch that no worker claims."""

from dataclasses import replace
from typing import Any

import pytest

from models.processes.holders import HolderId, PidNamespace
from producer.batches.blockers import SliceCounts, decide_blockers
from producer.workers.workers import WorkerView
from tests.unit.producer.workers.test_workers import batch, worker

QUEUED = SliceCounts(leased=0, claimable=2, deferred=0, next_retry_seconds=0.0, last_retry_error=None)
GUARDS = ("injection", "secrets")


def guarded(*guards: str, **fields: Any) -> WorkerView:
    return replace(worker("r"), guards={"p": guards} if guards else {}, **fields)


@pytest.mark.parametrize(
    ("workers", "code", "words"),
    [
        ([guarded()], "guard_missing", "has the guards injection, secrets, with which"),
        ([guarded("injection")], "guard_missing", "whose p has the guard secrets, with which"),
        ([guarded(), guarded("secrets")], "guard_missing", "has the guard injection, with which"),
        ([guarded(), guarded(*GUARDS)], "queued", "one worker is busy"),
        ([guarded(*GUARDS, "more")], "queued", "one worker is busy"),
        ([replace(worker("r"), guards={"another": GUARDS})], "guard_missing", "injection, secrets"),
        ([guarded(*GUARDS, alive=False)], "no_worker", "no worker serves p now"),
    ],
)
def test_a_worker_must_have_all_guards(workers: list[WorkerView], code: str, words: str) -> None:
    [blocker] = decide_blockers(batch("r"), QUEUED, workers, [], GUARDS)

    assert blocker.code == code
    assert words in blocker.message


def test_an_up_whose_workers_do_not_run_yet_is_named() -> None:
    [blocker] = decide_blockers(
        batch("r"), QUEUED, [], [], (), HolderId(PidNamespace("host", "boot", "1"), 4711, "", "nonce")
    )

    assert blocker.message.startswith("no worker serves p now: `batchmill up` (pid 4711) is starting its workers, or")


def test_a_batch_without_guards_needs_none() -> None:
    [blocker] = decide_blockers(batch("r"), QUEUED, [guarded()], [])

    assert blocker.code == "queued"


@pytest.mark.parametrize(
    ("revision", "advice"),
    [("old", "restore that model and restart"), ("old+older", "restore that model or adapter and restart the workers")],
)
def test_a_batch_of_another_revision_waits_for_what_it_began_with(revision: str, advice: str) -> None:
    [blocker] = decide_blockers(batch(revision), QUEUED, [worker("new")], [])

    assert blocker.code == "other_revision"
    assert advice in blocker.message
