"""Measures how memory grows while many inputs run, and how fast they do."""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from worker import process_memory
from worker.task_checks import inputs
from worker.task_checks.checks import Checks
from worker.task_checks.report import CheckFailed, CheckSkipped

CALL_INPUTS = 32
# Buffers and caches grow to their full size first.
WARM_UP_SHARE = 0.25
MAX_GROWTH_MB = 24.0
MEGABYTE = 2**20


def check_memory(checks: Checks, max_inputs: int, max_seconds: float, on_progress: Callable[[], None]) -> str:
    """Run many inputs; raises CheckFailed if memory keeps growing with them.

    max_inputs, max_seconds: whichever is reached first ends the run.
    on_progress: called now and then, so that a long run is not taken for a hang.
    """
    warm_up_end = max(CALL_INPUTS, round(WARM_UP_SHARE * max_inputs))

    def run(numbers: range, seconds: float) -> int:
        return _run(
            checks, (numbers[at : at + CALL_INPUTS] for at in range(0, len(numbers), CALL_INPUTS)), seconds, on_progress
        )

    warm_up = run(range(warm_up_end), WARM_UP_SHARE * max_seconds)
    before, started = _resident_megabytes(), time.monotonic()
    count = run(range(warm_up_end, max(max_inputs, warm_up_end + 1)), (1 - WARM_UP_SHARE) * max_seconds)
    pace = count / (time.monotonic() - started)
    growth = _resident_megabytes() - before
    if growth > MAX_GROWTH_MB:
        raise CheckFailed(
            f"memory grew by {growth:,.0f} MB in {count:,} inputs; keep nothing of them, such as tensors in a list or "
            "a cache without a bound"
        )
    return f"memory grew by {max(growth, 0.0):,.1f} MB in {count:,} inputs, after {warm_up:,}; {pace:,.0f} inputs/s"


def _run(checks: Checks, calls: Iterable[range], seconds: float, on_progress: Callable[[], None]) -> int:
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


def _resident_megabytes() -> float:
    """The memory of this process, without what Python and the C library could free."""
    if sys.platform != "linux":
        raise CheckSkipped("memory is measured on Linux only")
    gc.collect()
    process_memory.trim_heap()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE
