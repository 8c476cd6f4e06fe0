"""Measures how memory grows while many inputs run, and how fast they do."""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from worker import process_memory
from worker.task_checks import inputs
from worker.task_checks.checks import STATE_ADVICE, Checks
from worker.task_checks.report import CheckFailed, CheckSkipped

CALL_INPUTS = 32
# Buffers and caches grow to their full size first.
WARM_UP_SHARE, MEASURED_SHARE = 0.25, 0.375
# Fewer say little: libraries keep a few objects for each call, too.
MIN_MEASURED_INPUTS = 4 * CALL_INPUTS
MAX_GROWTH_MB = 24.0
MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds at one moment.

    objects: those that Python's collector knows, such as lists and tensors.
    blocks: of Python's allocator, those of texts included.
    """

    megabytes: float
    objects: int
    blocks: int

    @classmethod
    def measure(cls) -> Self:
        """Measure this process, without what Python and the C library could free."""
        if sys.platform != "linux":
            raise CheckSkipped("memory is measured on Linux only")
        gc.collect()
        process_memory.trim_heap()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        megabytes = pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE
        return cls(megabytes, len(gc.get_objects()), sys.getallocatedblocks())


def check_memory(checks: Checks, max_inputs: int, max_seconds: float, on_progress: Callable[[], None]) -> str:
    """Run many inputs; raises CheckFailed if memory keeps growing with them.

    max_inputs, max_seconds: whichever is reached first ends the run.
    on_progress: called now and then, so that a long run is not taken for a hang.
    """
    shares = (WARM_UP_SHARE, MEASURED_SHARE, MEASURED_SHARE)
    usages, counts, numbers, started = [], [], iter(range(1_000_000_000)), 0.0
    for share in shares:
        calls = max(1, round(share * max_inputs / CALL_INPUTS))
        inputs_of_calls = (list(islice(numbers, CALL_INPUTS)) for _ in range(calls))
        counts.append(_run(checks, inputs_of_calls, share * max_seconds, on_progress))
        usages.append(Usage.measure())
        started = started or time.monotonic()
    pace = sum(counts[1:]) / (time.monotonic() - started)
    growth = max(0.0, usages[-1].megabytes - usages[0].megabytes)
    kept = _objects_kept(usages, counts)
    if growth > MAX_GROWTH_MB or kept:
        objects = f", and {kept:,} Python objects" if kept else ""
        raise CheckFailed(
            f"memory grew by {growth:,.1f} MB{objects} in {sum(counts[1:]):,} inputs; keep nothing of them, such as "
            "tensors in a list (if a cache with a bound is still filling, give more --inputs)"
        )
    checks.compare(checks.answer_alone(), f"after {sum(counts):,} others", STATE_ADVICE)
    return f"memory grew by {growth:,.1f} MB in {sum(counts[1:]):,} inputs, after {counts[0]:,}; {pace:,.0f} inputs/s"


def _objects_kept(usages: Sequence[Usage], counts: Sequence[int]) -> int:
    """How many objects stayed, 0 unless both measured runs left some for each call, or small ones for each input."""
    grown = [
        (after.objects - before.objects, after.blocks - before.blocks, count)
        for before, after, count in zip(usages, usages[1:], counts[1:], strict=False)
    ]
    if all(count >= MIN_MEASURED_INPUTS for *_, count in grown):
        if all(objects >= count // CALL_INPUTS for objects, _, count in grown):
            return sum(objects for objects, *_ in grown)
        if all(blocks >= count for _, blocks, count in grown):
            return sum(blocks for _, blocks, _ in grown)
    return 0


def _run(checks: Checks, calls: Iterable[Sequence[int]], seconds: float, on_progress: Callable[[], None]) -> int:
    """Answer at least one call of numbered inputs, and more while there is time; return their count."""
    trial, example = checks.trial, checks.variants[0][1]
    count, ended_at = 0, time.monotonic() + seconds
    for numbers in calls:
        trial.answer([(at, inputs.make_numbered(trial.spec, example, at, trial.parameters)) for at in numbers])
        trial.incidents.clear()
        count += len(numbers)
        on_progress()
        if time.monotonic() >= ended_at:
            break
    return count
