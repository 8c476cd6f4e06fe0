"""A part assembler collects a job's rows, which may leave the device in several micro-batches."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Self

from worker.adapters.rows import Row
from worker.leasing.leases import Job, Lease


@dataclass(slots=True)
class PartialJob:
    """The rows of one job and its duplicates that have left the device, with their outputs and their cost.

    encoded_rows: the rows, in the order of encoding once the job is complete.
    raw_outputs: for each row a raw output or an exception.
    truncated: whether any part of the input was cut off.
    """

    jobs: tuple[Job, ...]
    encoded_rows: list[Row]
    raw_outputs: list[Any]
    truncated: bool
    tokens: int
    padded_tokens: int
    device_seconds: float

    @classmethod
    def begin(cls, row: Row, raw_output: Any, width: int, device_seconds: float) -> Self:
        """A job of which one row has left the device.

        width: tokens that each row of the pass was padded to.
        device_seconds: the row's share of the pass.
        """
        jobs = row.jobs if row.duplicates else (row.job,)
        return cls(jobs, [row], [raw_output], row.truncated, row.length, row.computed_tokens(width), device_seconds)

    @property
    def failure(self) -> Exception | None:
        """The first exception among the outputs."""
        for raw_output in self.raw_outputs:
            if isinstance(raw_output, Exception):
                return raw_output
        return None

    def add(self, row: Row, raw_output: Any, width: int, device_seconds: float) -> None:
        """Add another row of the same job, as `begin` does with the first."""
        self.encoded_rows.append(row)
        self.raw_outputs.append(raw_output)
        self.truncated = self.truncated or row.truncated
        self.tokens += row.length
        self.padded_tokens += row.computed_tokens(width)
        self.device_seconds += device_seconds

    def sort_rows(self) -> None:
        """Put the rows into the order of encoding."""
        pairs = sorted(zip(self.encoded_rows, self.raw_outputs, strict=True), key=lambda pair: pair[0].part_index)
        self.encoded_rows, self.raw_outputs = [row for row, _ in pairs], [raw_output for _, raw_output in pairs]


class PartAssembler:
    """Puts jobs together from their rows; used by the write thread alone."""

    def __init__(self) -> None:
        self._partial_jobs: dict[Lease, dict[int, PartialJob]] = {}  # by lease and position

    def add(self, rows: Iterable[tuple[Row, Any]], width: int, device_seconds_per_row: float) -> list[PartialJob]:
        """Add the rows of one micro-batch; returns the jobs that are complete now."""
        complete = []
        for row, raw_output in rows:
            if row.part_count == 1:  # nearly every job
                complete.append(PartialJob.begin(row, raw_output, width, device_seconds_per_row))
            elif partial_job := self._add_part(row, raw_output, width, device_seconds_per_row):
                complete.append(partial_job)
        return complete

    def _add_part(self, row: Row, raw_output: Any, width: int, device_seconds: float) -> PartialJob | None:
        """Add one of several rows of a job; returns the job if that completes it."""
        jobs_of_lease = self._partial_jobs.setdefault(row.job.lease, {})
        partial_job = jobs_of_lease.get(row.job.position)
        if partial_job is None:
            jobs_of_lease[row.job.position] = PartialJob.begin(row, raw_output, width, device_seconds)
            return None
        partial_job.add(row, raw_output, width, device_seconds)
        if len(partial_job.encoded_rows) < row.part_count:
            return None
        del jobs_of_lease[row.job.position]
        partial_job.sort_rows()
        return partial_job

    def discard_others(self, held_leases: Collection[Lease]) -> None:
        """Discard the jobs of all other leases, because other processes answer them now."""
        for lease in [lease for lease in self._partial_jobs if lease not in held_leases]:
            kept = {  # those with a duplicate in a held lease
                position: partial_job
                for position, partial_job in self._partial_jobs.pop(lease).items()
                if any(job.lease in held_leases for job in partial_job.jobs)
            }
            if kept:
                self._partial_jobs[lease] = kept
