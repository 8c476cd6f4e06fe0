"""Twins: jobs of a window with the same input and the same parameters are computed once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.db import as_json
from worker.leasing.claims import Job


def found(
    jobs: Sequence[Job], draws: Callable[[Mapping[str, Any]], bool]
) -> list[tuple[Job, tuple[Job, ...]]]:  # fmt: skip
    """The distinct jobs in their order, each with its twins. What `draws` by chance has none: each draws for itself."""
    groups: dict[tuple[str, str, int | None], list[Job]] = {}
    parameters: dict[int, tuple[str, bool]] = {}  # of each slice, since all its jobs share them
    for job in jobs:
        lease = job.lease
        if lease.slice_id not in parameters:
            parameters[lease.slice_id] = as_json(lease.parameters), draws(lease.parameters)
        key, alone = parameters[lease.slice_id]
        groups.setdefault((key, as_json(job.input), job.position if alone else None), []).append(job)
    return [(first, tuple(others)) for first, *others in groups.values()]
