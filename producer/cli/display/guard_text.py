"""The counts and device time of a batch's guards in words."""

from collections.abc import Sequence

from models.guards.definition import Guard
from models.lifecycle.guard_counters import COUNTER_BY_ACTION
from models.privacy import terminal
from producer.batches.batch_view import GuardCounts
from producer.batches.views import BatchView
from producer.live_view import words
from producer.results.result_row import ResultRow

PATTERN_WIDTH = 80


def guard_lines(guards: Sequence[GuardCounts]) -> list[str]:
    """Return a line for each guard, such as `injection (input): 996 passed, 4 blocked`."""
    return [
        f"{guard.guard} ({guard.on}): {', '.join([f'{guard.passed:,} passed', *words.caught_parts(guard)])}"
        for guard in guards
    ]


def format_blocked(guards: Sequence[GuardCounts]) -> str:
    """Return how many rows each guard blocked, such as `4 by injection, 1 by secrets`; empty if none."""
    return ", ".join(f"{guard.blocked:,} by {guard.guard}" for guard in guards if guard.blocked)


def format_guard_time(batch: BatchView) -> str | None:
    """Return the guards' part of a batch's device time and its share; None if no guard has a model."""
    seconds = batch.guard_device_seconds
    if not seconds:
        return None
    return f"guards took {seconds:,.1f} s of it ({seconds / (batch.device_seconds + seconds):.0%})"


def format_verdicts(row: ResultRow) -> str:
    """Return which guards caught a row, such as `flagged by toxicity, redacted by pii`; empty if none did."""
    return ", ".join(
        f"{COUNTER_BY_ACTION[verdict['action']]} by {verdict['guard']}"
        for verdict in row.guards or ()
        if verdict["action"] != "pass"
    )


def describe_check(guard: Guard) -> str:
    """Return what a guard catches, such as `INJECTION of prompt-injection from 0.8` or `120 words`."""
    if guard.pipeline is not None:
        return f"{' or '.join(guard.labels) or 'any entity'} of {guard.pipeline} from {guard.least_score:g}"
    if guard.pattern is not None:
        return f"pattern {terminal.shorten(guard.pattern, PATTERN_WIDTH)}"
    return guard.rule_summary
