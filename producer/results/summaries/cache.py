"""Summaries that are kept while the results of their batch stay as they are, because many people look at one batch."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import text

from models.db import Database
from models.errors import NotFound
from producer.batches.batch_view import JobCounts

MAX_KEPT = 200

Summary = TypeVar("Summary")


class ResultsState(NamedTuple):
    """What changes with every result that lands, and with every one that a retry withdraws.

    last_seq: of the newest result
    """

    last_seq: int
    counts: JobCounts


class SummaryCache:
    """The summaries of the batches that were looked at last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[Hashable, ...], tuple[ResultsState, Any]] = OrderedDict()

    def get(self, key: tuple[Hashable, ...], state: ResultsState, read: Callable[[], Summary]) -> Summary:
        """Return the summary with this key, read again if the state is another than when it was kept."""
        with self._lock:
            known = self._kept.get(key)
        if known is not None and known[0] == state:
            summary: Summary = known[1]
        else:
            summary = read()  # without the lock, which others need for their batches
        with self._lock:
            self._kept[key] = (state, summary)
            self._kept.move_to_end(key)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return summary


def find_last_seq(database: Database, batch_id: str) -> int:
    """Return the `seq` of a batch's newest result; raises NotFound."""
    with database.statement() as connection:
        last_seq: int | None = connection.scalar(
            text("SELECT last_seq FROM batches WHERE id = :batch_id"), {"batch_id": batch_id}
        )
    if last_seq is None:
        raise NotFound(f"there is no batch {batch_id[:80]!r}")
    return last_seq
