"""The intake decides which rows enter a running generation, and how many."""

from collections.abc import Callable, Sequence

from worker.adapters.generation.generator import PrefillRows
from worker.adapters.interface import FetchMore
from worker.adapters.rows import Row

# Rows enter when one place in so many is free. Entering copies the caches of the new rows and of those that continue.
REFILL_WHEN_ONE_IN = 4


class RowIntake:
    """The rows that wait to enter a run.

    rows: the first ones, the longest first.
    fetch_more: returns further rows, which may be longer.
    count_fitting: returns how many rows of a width may run at once, at least 1.
    prefill: makes the tensors of rows that enter together.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        fetch_more: FetchMore,
        count_fitting: Callable[[int], int],
        prefill: Callable[[Sequence[Row]], PrefillRows],
    ) -> None:
        self._waiting = list(rows)
        self._fetch_more = fetch_more
        self._count_fitting = count_fitting
        self._prefill = prefill

    def has_room(self, running_rows: int, running_width: int) -> bool:
        """Whether enough places are free, beside running rows of this width, to be worth a copy of their caches."""
        max_rows = self._count_fitting(running_width)
        return (max_rows - running_rows) * REFILL_WHEN_ONE_IN >= max_rows

    def next_rows(self, running_rows: int, running_width: int) -> PrefillRows | None:
        """Return the rows that enter beside the running ones; None if there are none, or none fits."""
        if not self._waiting and (free := self._count_fitting(running_width) - running_rows) > 0:
            self._waiting = list(self._fetch_more(free))
        if not self._waiting:
            return None
        width = max(running_width, max(row.padded_length for row in self._waiting))
        free = max(0, self._count_fitting(width) - running_rows)
        entering, self._waiting = self._waiting[:free], self._waiting[free:]
        # None fit when they are so much longer than the running ones that these must leave first.
        return self._prefill(entering) if entering else None
