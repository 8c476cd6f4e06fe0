"""Following the results of a batch as they land."""

import time
from collections.abc import Callable, Iterator, Sequence

from models.db import Database
from models.states import JobOutcome
from producer.batches import polling, views
from producer.results.pages import iter_pages
from producer.results.result_row import ResultRow


def follow(
    database: Database,
    batch_id: str,
    after_seq: int = 0,
    sleep: Callable[[float], object] | None = None,
    statuses: Sequence[JobOutcome] = (),
) -> Iterator[list[ResultRow]]:
    """Yield pages of results after `after_seq` as they land, until the batch has ended and all of it is read.

    statuses: only results with one of these; empty = all

    Raises NotFound, also when the batch is deleted meanwhile.
    """
    intervals = polling.poll_intervals()
    while True:
        # The status comes first: once a batch has ended, all its results are readable.
        ended = views.get_batch(database, batch_id).status.has_ended
        for page in iter_pages(database, batch_id, after_seq):
            after_seq, intervals = page[-1].seq, polling.poll_intervals()  # more results are likely to follow soon
            # Not filtered in SQL: the cursor must advance over the other rows, or each poll would read them again.
            yield [row for row in page if not statuses or row.status in statuses]
        if ended:
            return
        (sleep or time.sleep)(next(intervals))
