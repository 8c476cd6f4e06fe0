"""Portions of rows on their way through the device: prefetched, running, and their raw outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from worker.adapters.rows import Row
from worker.leasing.leases import Lease
from worker.passes.planning import MicroBatchPlanner


@dataclass(frozen=True, slots=True)
class PrefetchedRows:
    """Tokenized rows of one claim, ready to be planned into micro-batches.

    claim_requested_at: by the monotonic clock.
    guard_seconds: how long guards took to read the inputs.
    """

    leases: list[Lease]
    planner: MicroBatchPlanner
    claim_requested_at: float
    guard_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """The outputs of one micro-batch: a raw output or an exception for each row.

    device_seconds: the time that the device took, by its own clock where it has one.
    thread_seconds: the time that the device thread took.
    """

    width: int
    rows: list[tuple[Row, Any]]
    device_seconds: float = 0.0
    thread_seconds: float = 0.0


@dataclass(slots=True)
class Portion:
    """The progress of one claim's rows through the device.

    planner: the rows that have not been launched.
    claim_requested_at, started_at: by the monotonic clock.
    guard_seconds: how long guards took to read the inputs.
    is_launched: whether no further micro-batch of it will be launched.
    in_flight: its micro-batches on the device.
    """

    planner: MicroBatchPlanner
    claim_requested_at: float
    started_at: float
    guard_seconds: float = 0.0
    is_launched: bool = False
    in_flight: int = 0
    answered_jobs: int = 0
    device_seconds: float = 0.0
    thread_seconds: float = 0.0

    def add(self, outputs: RawOutputs) -> None:
        """Count the outputs of one micro-batch."""
        self.answered_jobs += sum(1 + len(row.duplicates) for row, _ in outputs.rows if row.part_index == 0)
        self.device_seconds += outputs.device_seconds
        self.thread_seconds += outputs.thread_seconds


class RunningMicroBatch:
    """A micro-batch that rows join and leave while it runs."""

    def __init__(self, first_rows: Sequence[Row], fetch_rows: Callable[["RunningMicroBatch", int], list[Row]]) -> None:
        self.rows = list(first_rows)
        self.has_grown = False  # whether rows have joined it
        self.portions = 1  # that its rows came from
        self._fetch_rows = fetch_rows

    def fetch(self, max_rows: int) -> list[Row]:
        """Add up to `max_rows` rows, and return them."""
        rows = self._fetch_rows(self, max_rows)
        self.rows += rows
        self.has_grown = self.has_grown or bool(rows)
        return rows

    def remove(self, finished_rows: Sequence[tuple[Row, Any]]) -> None:
        """Remove the rows that have their outputs."""
        finished_ids = {id(row) for row, _ in finished_rows}
        self.rows = [row for row in self.rows if id(row) not in finished_ids]
