"""Following: what has landed of a batch and what lands from now on, until nothing more can."""

import time
from collections.abc import Callable, Iterator

from models.db import Database
from producer.batches import polling, views
from producer.results import pages
from producer.results.pages import ResultRow


def pages(
    database: Database, batch_id: str, after: int = 0, pause: Callable[[float], object] | None = None
) -> Iterator[list[ResultRow]]:
    """Pages of what landed after `after` (a `seq`), as they land; ends once the batch has ended and all of it is read.

    Raises NotFound, also when the batch is deleted meanwhile.
    """
    idle = polling.pauses()
    while True:
        # The status first: of a batch that has ended by now, all results are there to be read.
        ended = views.get(database, batch_id).status.ended
        for page in pages.pages_as_landed(database, batch_id, after):
            after, idle = page[-1].seq, polling.pauses()  # more is likely to come soon
            yield page
        if ended:
            return
        (pause or time.sleep)(next(idle))
