"""The counts and device time of a batch's guards in words."""

from collections.abc import Sequence

from producer.batches.guard_counts import GuardCounts
from producer.batches.views import BatchView


def guard_lines(guards: Sequence[GuardCounts]) -> list[str]:
    """Return a line for each guard, such as `injection (input): 996 passed, 4 blocked`."""
    return [
        f"{guard.guard} ({guard.on}): {', '.join([f'{guard.passed:,} passed', *_caught_parts(guard)])}"
        for guard in guards
    ]


def format_caught(guards: Sequence[GuardCounts]) -> str:
    """Return what the guards caught so far, such as `injection 4 blocked; pii 12 redacted`; empty if nothing."""
    return "; ".join(f"{guard.guard} {', '.join(_caught_parts(guard))}" for guard in guards if guard.caught)


def format_guard_time(batch: BatchView) -> str | None:
    """Return the device time of a batch's guards and its share; None if no guard has a model."""
    seconds = batch.guard_device_seconds
    if not seconds:
        return None
    return f"{seconds:,.1f} s of device time, {seconds / (batch.device_seconds + seconds):.0%}"


def _caught_parts(guard: GuardCounts) -> list[str]:
    counts = (("flagged", guard.flagged), ("redacted", guard.redacted), ("blocked", guard.blocked))
    return [f"{count:,} {verdict}" for verdict, count in counts if count]
