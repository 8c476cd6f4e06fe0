"""Closing: what came off the device is decoded, and written with its slices and counters. Of the write thread alone."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from models.db import Database
from models.failpoints import failpoint
from worker import answers, store
from worker.adapters.base import Adapter
from worker.assembly import Assembly
from worker.claims import Lease
from worker.holdings import Holdings
from worker.passes import Raw
from worker.patience import patiently
from worker.store import Answer, Deferral, PutOff
from worker.watchdog import Watchdog

Backoff = Callable[[int], float]  # seconds to wait, by the number of the try that failed


def at_once(_tries: int) -> float:
    """No backoff."""
    return 0.0


class Closing:
    """Puts jobs' parts together, and closes them batch by batch, each in one fenced transaction."""

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
        raws = [item for item in items if isinstance(item, Raw)]
        unclosed = [lease for item in items if not isinstance(item, Raw) for lease in item]
        with self._watchdog.watching():
            found = [one for raw in raws for one in self._answered(raw, held) if one.lease in held]
        leases = {lease.slice_id: lease for lease in unclosed if lease in held}
        leases |= {answer.lease.slice_id: answer.lease for answer in found}
        self._defer([one for one in found if isinstance(one, Deferral)], held)
        for batch_id in sorted({lease.batch_id for lease in leases.values()}):
            of_batch = [one for one in found if isinstance(one, Answer) and one.lease.batch_id == batch_id]
            self._close_batch(of_batch, [lease for lease in leases.values() if lease.batch_id == batch_id])

    def _answered(self, item: Raw, held: Collection[Lease]) -> Iterator[Answer | Deferral]:
        rows = [(row, raw) for row, raw in item.rows if any(job.lease in held for job in row.jobs)]
        for parts in self._assembly.add(rows, item.width, item.seconds / len(item.rows)):
            yield from answers.of(self._adapter, parts, self._max_attempts)

    def _defer(self, deferrals: Iterable[Deferral], held: Collection[Lease]) -> None:
        self._deferred = {lease: of_it for lease, of_it in self._deferred.items() if lease in held}
        for deferral in deferrals:
            self._deferred.setdefault(deferral.lease, []).append(deferral)

    def _close_batch(self, found: Sequence[Answer], leases: Sequence[Lease]) -> None:
        counts = Counter(answer.lease.slice_id for answer in found)
        left = {lease: self._holdings.open_jobs(lease) - counts[lease.slice_id] for lease in leases}
        finished = {lease.slice_id for lease in leases if left[lease] <= 0}
        put_off = [
            PutOff(lease, self._backoff(lease.retries + 1), tuple(deferrals))
            for lease in leases
            if (deferrals := self._deferred.get(lease)) and left[lease] == len(deferrals)
        ]

        def write(again: bool) -> store.Closed:
            with self._database.write() as connection:
                done = store.close(
                    connection, self._database.sql, found, leases, finished, self._version_id, put_off=put_off,
                    again=again,
                )  # fmt: skip
                failpoint("before_commit")
                return done

        closed = patiently(write)
        failpoint("after_commit")
        self._holdings.drop(lease for lease in leases if lease.slice_id in closed.lost)
        self._holdings.drop(one.lease for one in put_off)
        for lease in leases:
            if lease.slice_id not in closed.lost:
                self._holdings.answered(lease, counts[lease.slice_id])
        self._log_close(leases, closed, put_off)

    def _log_close(self, leases: Sequence[Lease], closed: store.Closed, put_off: Sequence[PutOff]) -> None:
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
