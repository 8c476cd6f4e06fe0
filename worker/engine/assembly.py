"""A part assembler collects a job's rows, which may leave the device in several micro-batches."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from worker.adapters.rows import Row
from worker.leasing.leases import Job, Lease


@dataclass(slots=True)
class PartialJob:
    """The rows of one job and its duplicates that have left the device, with their outputs and their cost."""

    jobs: tuple[Job, ...]
    missing_rows: int
    rows: list[tuple[Row, Any]] = field(default_factory=list)  # in the order of encoding once complete
    tokens: int = 0
    padded_tokens: int = 0
    device_seconds: float = 0.0

    @property
    def truncated(self) -> bool:
        """Whether any part of the input was cut off."""
        return any(row.truncated for row, _ in self.rows)

    @property
    def encoded_rows(self) -> list[Row]:
        """The rows."""
        return [row for row, _ in self.rows]

    @property
    def raw_outputs(self) -> list[Any]:
        """For each row a raw output or an exception."""
        return [raw for _, raw in self.rows]

    @property
    def failure(self) -> Exception | None:
        """The first exception among the outputs."""
        return next((raw for _, raw in self.rows if isinstance(raw, Exception)), None)

    def add(self, row: Row, raw_output: Any, width: int, device_seconds: float) -> None:
        """Add one row of a forward pass.

        width: tokens that each row of the pass was padded to.
        device_seconds: the row's share of the pass.
        """
        self.rows.append((row, raw_output))
        self.missing_rows -= 1
        self.tokens += row.length
        self.padded_tokens += row.computed_tokens(width)
        self.device_seconds += device_seconds
        if not self.missing_rows and row.part_count > 1:
            self.rows.sort(key=lambda pair: pair[0].part_index)


class PartAssembler:
    """Puts jobs together from their rows; used by the write thread alone."""

    def __init__(self) -> None:
        self._partial_jobs: dict[tuple[Lease, int], PartialJob] = {}

    def add(self, rows: Iterable[tuple[Row, Any]], width: int, device_seconds_per_row: float) -> list[PartialJob]:
        """Add the rows of one micro-batch; returns the jobs that are complete now."""
        complete = []
        for row, raw_output in rows:
            partial_job = self._partial_job_for(row)
            partial_job.add(row, raw_output, width, device_seconds_per_row)
            if partial_job.missing_rows == 0:
                complete.append(partial_job)
        return complete

    def _partial_job_for(self, row: Row) -> PartialJob:
        if row.part_count == 1:  # nearly every job; an entry in the dictionary would cost more than the job
            return PartialJob(row.jobs, 1)
        key = (row.job.lease, row.job.position)
        partial_job = self._partial_jobs.setdefault(key, PartialJob(row.jobs, row.part_count))
        if partial_job.missing_rows == 1:
            del self._partial_jobs[key]
        return partial_job

    def discard_others(self, held_leases: Collection[Lease]) -> None:
        """Discard the jobs of all other leases, because other processes answer them now."""
        self._partial_jobs = {
            key: partial_job
            for key, partial_job in self._partial_jobs.items()
            if any(job.lease in held_leases for job in partial_job.jobs)
        }
