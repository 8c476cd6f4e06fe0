"""A part assembler collects a job's rows, which may leave the device in several micro-batches."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Self

from worker.adapters.rows import GeneratedTexts, Row
from worker.leasing.leases import Job, Lease


@dataclass(slots=True)
class PartialJob:
    """The rows of one job and its duplicates that have left the device, with their outputs and their cost.

    encoded_rows: the rows, in the order of encoding; while some are missing, another row takes their places.
    raw_outputs: for each row a raw output or an exception, in the same places.
    truncated: whether any part of the input, or of the output, was cut off.
    """

    jobs: tuple[Job, ...]
    encoded_rows: list[Row]
    raw_outputs: list[Any]
    missing_rows: int
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
        jobs, count = row.jobs if row.duplicates else (row.job,), row.part_count
        tokens = row.computed_tokens(width)
        truncated = _is_truncated(row, raw_output)
        return cls(jobs, [row] * count, [raw_output] * count, count - 1, truncated, row.length, tokens, device_seconds)

    @property
    def failure(self) -> Exception | None:
        """The first exception among the outputs."""
        for raw_output in self.raw_outputs:
            if isinstance(raw_output, Exception):
                return raw_output
        return None

    def add(self, row: Row, raw_output: Any, width: int, device_seconds: float) -> None:
        """Add another row of the same job, as `begin` does with the first."""
        self.encoded_rows[row.part_index] = row
        self.raw_outputs[row.part_index] = raw_output
        self.missing_rows -= 1
        self.truncated = self.truncated or _is_truncated(row, raw_output)
        self.tokens += row.length
        self.padded_tokens += row.computed_tokens(width)
        self.device_seconds += device_seconds


def _is_truncated(row: Row, raw_output: Any) -> bool:
    """Whether the input was cut, or a text that it gives was out of time."""
    return row.truncated or (isinstance(raw_output, GeneratedTexts) and raw_output.is_out_of_time)


class PartAssembler:
    """Puts jobs together from their rows; used by the write thread alone."""

    def __init__(self) -> None:
        # By the identity of the lease, which all rows of a claim share, and then by position.
        self._partial_jobs: dict[int, tuple[Lease, dict[int, PartialJob]]] = {}

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
        lease, position = row.job.lease, row.job.position
        if id(lease) not in self._partial_jobs:
            self._partial_jobs[id(lease)] = lease, {}
        jobs_of_lease = self._partial_jobs[id(lease)][1]
        partial_job = jobs_of_lease.get(position)
        if partial_job is None:
            jobs_of_lease[position] = PartialJob.begin(row, raw_output, width, device_seconds)
            return None
        partial_job.add(row, raw_output, width, device_seconds)
        return None if partial_job.missing_rows else jobs_of_lease.pop(position)

    def discard_others(self, held_leases: Collection[Lease]) -> None:
        """Discard the jobs of all other leases, because other processes answer them now."""
        for key, (lease, jobs_of_lease) in list(self._partial_jobs.items()):
            if lease in held_leases:
                continue
            kept = {  # those with a duplicate in a held lease
                position: partial_job
                for position, partial_job in jobs_of_lease.items()
                if any(job.lease in held_leases for job in partial_job.jobs)
            }
            if kept:
                self._partial_jobs[key] = lease, kept
            else:
                del self._partial_jobs[key]
