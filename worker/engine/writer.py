"""Closing: what came off the device is decoded, and written with its slices and counters. Of the write thread alone."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, text

from models.db import Database, Fragments, as_numbers
from models.failpoints import failpoint
from worker import process_memory
from worker.adapters.interface import Adapter
from worker.engine import outcomes
from worker.engine.assembly import Assembly
from worker.engine.device_loop import Raw
from worker.engine.watchdog import Watchdog
from worker.leasing import commit
from worker.leasing.chunking import chunks
from worker.leasing.claim_statements import LOCK_BATCHES
from worker.leasing.commit import Answer, Deferral, PutOff
from worker.leasing.leases import Holdings, Lease
from worker.leasing.retry import patiently

# In one transaction: small batches share a commit, and none has its row locked for long.
BATCHES_TOGETHER, ANSWERS_TOGETHER = 64, 256
# Answers may be far larger than what they answer: a text with each of a thousand words for its mask.
WRITTEN_CHARACTERS = 8 * 2**20

LOCK_SLICES = "SELECT id FROM slices WHERE id {in_numbers} ORDER BY id {for_update}"

Backoff = Callable[[int], float]  # seconds to wait, by the number of the try that failed


def at_once(_tries: int) -> float:
    """No backoff."""
    return 0.0


@dataclass(frozen=True, slots=True)
class OfBatch:
    """What there is to close of one batch."""

    answers: list[Answer] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)

    @property
    def counts(self) -> Counter[int]:
        """How many answers each slice has, by id."""
        return Counter(answer.lease.slice_id for answer in self.answers)


class Closing:
    """Puts jobs' parts together, and closes them under their fences, some batches in one transaction."""

    def __init__(
        self, database: Database, adapter: Adapter, holdings: Holdings, *, version_id: int, max_attempts: int,
        backoff: Backoff, watchdog: Watchdog, log: Any,
    ) -> None:  # fmt: skip
        self._database = database
        self._adapter = adapter
        self._holdings = holdings
        self._version_id = version_id
        self._max_attempts = max_attempts
        self._backoff = backoff
        self._watchdog = watchdog
        self._log = log
        self._assembly = Assembly()
        self._deferred: dict[Lease, list[Deferral]] = {}

    def close(self, items: Sequence[Raw | Sequence[Lease]]) -> None:
        """Answer what came off the device, and the slices that turned out to have no open job."""
        held = set(self._holdings.leases())  # at most one for each slice, though it may have been claimed twice
        self._assembly.keep(held)
        self._deferred = {lease: of_it for lease, of_it in self._deferred.items() if lease in held}
        leases = [lease for item in items if not isinstance(item, Raw) for lease in item if lease in held]
        if leases:
            self._close_all([], leases)
        for found in self._decoded([item for item in items if isinstance(item, Raw)], held):
            self._close_all(found, [one.lease for one in found])

    def _decoded(self, raws: Sequence[Raw], held: Collection[Lease]) -> Iterator[list[Answer | Deferral]]:
        """What they come to, as much of it as is written in one go."""
        found: list[Answer | Deferral] = []
        size = 0
        answers_of_all = (one for raw in raws for one in self._answered(raw, held) if one.lease in held)
        while True:
            with self._watchdog.watching():
                for one in answers_of_all:
                    found.append(one)
                    size += len(one.output or "") if isinstance(one, Answer) else 0
                    if size > WRITTEN_CHARACTERS:
                        break
            if not found:
                return
            yield found
            if size > WRITTEN_CHARACTERS:
                process_memory.give_back()
            found, size = [], 0

    def _close_all(self, found: Sequence[Answer | Deferral], leases: Iterable[Lease]) -> None:
        for one in found:
            if isinstance(one, Deferral):
                self._deferred.setdefault(one.lease, []).append(one)
        answered = [one for one in found if isinstance(one, Answer)]
        for some in _portions(_by_batch(answered, {lease.slice_id: lease for lease in leases}.values())):
            self._close_batches(some)

    def _answered(self, item: Raw, held: Collection[Lease]) -> Iterator[Answer | Deferral]:
        rows = [(row, raw) for row, raw in item.rows if any(job.lease in held for job in row.jobs)]
        for parts in self._assembly.add(rows, item.width, item.seconds / len(item.rows)):
            yield from outcomes.of(self._adapter, parts, self._max_attempts)

    def _close_batches(self, some: Sequence[OfBatch]) -> None:
        closes = [self._planned(of_batch) for of_batch in some]

        def write(again: bool) -> list[commit.Closed]:
            with self._database.write() as connection:
                if len(closes) > 1:
                    _lock(connection, self._database.sql, some)
                done = [
                    commit.close(
                        connection, self._database.sql, each.answers, each.leases, finished, self._version_id,
                        put_off=put_off, again=again,
                    )
                    for each, finished, put_off in closes
                ]  # fmt: skip
                failpoint("before_commit")
                return done

        done = patiently(write)
        failpoint("after_commit")
        for (of_batch, _, put_off), closed in zip(closes, done, strict=True):
            self._settle(of_batch, closed, put_off)

    def _planned(self, of_batch: OfBatch) -> tuple[OfBatch, set[int], list[PutOff]]:
        """The batch's slices that are finished by this, and those that are put off."""
        counts = of_batch.counts
        left = {lease: self._holdings.open_jobs(lease) - counts[lease.slice_id] for lease in of_batch.leases}
        finished = {lease.slice_id for lease in of_batch.leases if left[lease] <= 0}
        put_off = [
            PutOff(lease, self._backoff(lease.retries + 1), tuple(deferrals))
            for lease in of_batch.leases
            if (deferrals := self._deferred.get(lease)) and left[lease] == len(deferrals)
        ]
        return of_batch, finished, put_off

    def _settle(self, of_batch: OfBatch, closed: commit.Closed, put_off: Sequence[PutOff]) -> None:
        counts = of_batch.counts
        self._holdings.drop(lease for lease in of_batch.leases if lease.slice_id in closed.lost)
        self._holdings.drop(one.lease for one in put_off)
        for lease in of_batch.leases:
            if lease.slice_id not in closed.lost:
                self._holdings.answered(lease, counts[lease.slice_id])
        self._log_close(of_batch.leases, closed, put_off)

    def _log_close(self, leases: Sequence[Lease], closed: commit.Closed, put_off: Sequence[PutOff]) -> None:
        batch = leases[0].batch_id
        for one in put_off:
            self._log.warning(
                "failures that may pass: will be tried again", batch=batch, slice=one.lease.slice_id,
                jobs=len(one.deferrals), seconds=round(one.seconds, 1), error=one.deferrals[-1].error_message,
            )  # fmt: skip
        if closed.ended:
            self._log.info(f"batch {closed.ended.value}", batch=batch)
        elif closed.lost:
            self._log.warning("leases were lost, their work is dropped", batch=batch, slices=sorted(closed.lost))


def _portions(batches: Iterable[OfBatch]) -> Iterator[list[OfBatch]]:
    """Batches of few answers together, one of many by itself."""
    return chunks(batches, lambda of_batch: len(of_batch.answers), ANSWERS_TOGETHER, BATCHES_TOGETHER)


def _by_batch(found: Iterable[Answer], leases: Iterable[Lease]) -> list[OfBatch]:
    """Batch by batch, by id."""
    batches: dict[str, OfBatch] = {}
    for lease in leases:
        batches.setdefault(lease.batch_id, OfBatch()).leases.append(lease)
    for answer in found:
        batches[answer.lease.batch_id].answers.append(answer)
    return [of_batch for _, of_batch in sorted(batches.items())]


def _lock(connection: Connection, sql: Fragments, some: Sequence[OfBatch]) -> None:
    """All batches by id, then all slices by id: one batch after the other would take slices before batches."""
    leases = [lease for of_batch in some for lease in of_batch.leases]
    batches = text(LOCK_BATCHES.format(for_update=sql.for_update)).bindparams(bindparam("batch_ids", expanding=True))
    connection.execute(batches, {"batch_ids": sorted({lease.batch_id for lease in leases})})
    slices = text(LOCK_SLICES.format(for_update=sql.for_update, in_numbers=sql.in_numbers))
    connection.execute(slices, {"numbers": as_numbers(lease.slice_id for lease in leases)})
