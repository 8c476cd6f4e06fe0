"""A live view of a batch on stderr: a bar and what stands behind it on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.privacy import terminal
from producer.batches.eta import Eta
from producer.batches.progress import BatchProgress, ProgressTracker
from producer.batches.views import BatchView
from producer.cli.display import batch_tables, progress

MAX_WORKERS, MAX_CODES = 4, 6

UpdateView = Callable[[BatchView], object]


@contextmanager
def show_batch(tracker: ProgressTracker, title: str = "running") -> Iterator[UpdateView]:
    """Show how a batch goes; the block calls what it gets with the batch at every look."""
    if sys.stderr.isatty():
        with _live_view(tracker, title) as see:
            yield see
    else:
        lines = progress.LineReporter(title)

        def see_in_lines(batch: BatchView) -> None:
            tracker.record(time.monotonic(), batch)
            if lines.is_due:  # only then ask for the rest
                counts = batch.counts
                lines(counts.ended, counts.total or None, ", ".join(line_parts(tracker.progress_for(batch))))

        yield see_in_lines


def line_parts(batch_progress: BatchProgress) -> list[str]:
    """What a line says of a batch beside how many jobs are done."""
    counts, holders = batch_progress.batch.counts, len(batch_progress.active_workers)
    parts = [
        format_current_rate(batch_progress),
        format_time_left(batch_progress.eta),
        f"{counts.failed:,} failed" if counts.failed else None,
        terminal.format_count(holders, "worker") if holders else None,
        format_padding(batch_progress.batch),
        f"waiting: {format_blockers(batch_progress)}" if batch_progress.waiting_for else None,
    ]
    return [part for part in parts if part]


def details(batch_progress: BatchProgress) -> str:
    """What stands under the bar."""
    pairs = [
        ("jobs", ", ".join(f"{count:,} {name}" for name, count in batch_tables.outcome_counts(batch_progress.batch))),
        (
            "pace",
            ", ".join(
                part for part in (format_current_rate(batch_progress), format_time_left(batch_progress.eta)) if part
            ),
        ),
        ("workers", format_workers(batch_progress)),
        ("padding", batch_tables.format_padding_share(batch_progress.batch.padding_share)),
        ("failures", format_failures(batch_progress)),
        ("waiting", format_blockers(batch_progress)),
    ]
    return terminal.format_pairs([(f"  {name}", value) for name, value in pairs if value])


def format_current_rate(batch_progress: BatchProgress) -> str | None:
    """How fast it goes at present; since its beginning where that is not known yet."""
    forecast = batch_progress.eta
    return batch_tables.format_rate(
        batch_progress.batch.jobs_per_second if forecast is None else forecast.jobs_per_second
    )


def format_time_left(eta: Eta | None) -> str | None:
    """How long it will take, and between which bounds that is likely: `about 3 min left (2 min to 5 min)`."""
    if eta is None:
        return None
    latest = "no telling" if eta.latest is None else batch_tables.format_duration(eta.latest)
    return (
        f"about {batch_tables.format_duration(eta.seconds)} left "
        f"({batch_tables.format_duration(eta.soonest)} to {latest})"
    )


def format_padding(batch: BatchView) -> str | None:
    """The share of padding, in a word."""
    return None if batch.padding_share is None else f"padding {batch.padding_share:.1%}"


def format_workers(batch_progress: BatchProgress) -> str:
    """Who works on it, and on how many jobs."""
    named = [
        f"{holder.host or holder.worker_id} {holder.device or ''}".rstrip()
        + f" ({terminal.format_count(holder.jobs, 'job')})"
        for holder in batch_progress.active_workers[:MAX_WORKERS]
    ]
    more = len(batch_progress.active_workers) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def format_failures(batch_progress: BatchProgress) -> str:
    """What failed, by error code."""
    named = [f"{count:,} {code}" for code, count in batch_progress.failures[:MAX_CODES]]
    return ", ".join(named) + (f", {terminal.ELLIPSIS}" if len(batch_progress.failures) > len(named) else "")


def format_blockers(batch_progress: BatchProgress) -> str:
    """Why nobody works on it."""
    return terminal.to_printable("; ".join(blocker.message for blocker in batch_progress.waiting_for))


@contextmanager
def _live_view(tracker: ProgressTracker, title: str) -> Iterator[UpdateView]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    bar = progress.make_bar()
    task = bar.add_task(title, total=None, count="0", note="")
    with Live(bar, console=Console(stderr=True)) as live:

        def see(batch: BatchView) -> None:
            tracker.record(time.monotonic(), batch)
            counts = batch.counts
            count = f"{counts.ended:,}/{counts.total:,}" if counts.total else "0"
            bar.update(task, completed=counts.ended, total=counts.total or None, count=count, note="")
            live.update(Group(bar, Text(details(tracker.progress_for(batch)))))

        yield see
