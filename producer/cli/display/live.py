"""Live view of a batch on stderr: a bar with details on a terminal, a line every few seconds elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.privacy import terminal
from producer.batches.eta import Eta
from producer.batches.progress import BatchProgress, ProgressTracker
from producer.batches.views import BatchView
from producer.cli.display import batch_tables, guard_text, progress

MAX_WORKERS, MAX_CODES = 4, 6

UpdateView = Callable[[BatchView], object]


@contextmanager
def show_batch(tracker: ProgressTracker, title: str = "running") -> Iterator[UpdateView]:
    """Show a batch's progress; the block calls the yielded function with the batch at every poll."""
    if sys.stderr.isatty():
        with _live_view(tracker, title) as update:
            yield update
    else:
        reporter = progress.LineReporter(title)

        def update_lines(batch: BatchView) -> None:
            tracker.record(batch)
            if reporter.is_due:  # the details take queries
                counts = batch.counts
                reporter(counts.ended, counts.total or None, ", ".join(line_parts(tracker.progress_for(batch))))

        yield update_lines


def line_parts(batch_progress: BatchProgress) -> list[str]:
    """Return the parts of a line about a batch that follow its number of finished jobs."""
    counts, workers = batch_progress.batch.counts, len(batch_progress.active_workers)
    caught = guard_text.format_caught(batch_progress.batch.guards)
    parts = [
        format_current_rate(batch_progress),
        format_time_left(batch_progress.eta),
        f"{counts.failed:,} failed" if counts.failed else None,
        f"guards: {caught}" if caught else None,
        terminal.format_count(workers, "worker") if workers else None,
        format_padding(batch_progress.batch),
        f"waiting: {format_blockers(batch_progress)}" if batch_progress.waiting_for else None,
    ]
    return [part for part in parts if part]


def details(batch_progress: BatchProgress) -> str:
    """Return the lines under the bar."""
    pairs = [
        ("jobs", ", ".join(f"{count:,} {name}" for name, count in batch_tables.outcome_counts(batch_progress.batch))),
        ("pace", ", ".join(filter(None, (format_current_rate(batch_progress), format_time_left(batch_progress.eta))))),
        ("workers", format_workers(batch_progress)),
        ("padding", batch_tables.format_padding_share(batch_progress.batch.padding_share)),
        ("failures", format_failures(batch_progress)),
        ("guards", guard_text.format_caught(batch_progress.batch.guards)),
        ("waiting", format_blockers(batch_progress)),
    ]
    return terminal.format_pairs([(f"  {name}", value) for name, value in pairs if value])


def format_current_rate(batch_progress: BatchProgress) -> str | None:
    """Return the current rate, or the average rate while the current one is unknown."""
    source = batch_progress.batch if batch_progress.eta is None else batch_progress.eta
    return batch_tables.format_rate(source.jobs_per_second)


def format_time_left(eta: Eta | None) -> str | None:
    """Return the remaining time with its bounds, such as `about 3 min left (2 min to 5 min)`."""
    if eta is None:
        return None
    earliest = terminal.format_duration(eta.earliest)
    bounds = f"at least {earliest}" if eta.latest is None else f"{earliest} to {terminal.format_duration(eta.latest)}"
    return f"about {terminal.format_duration(eta.seconds)} left ({bounds})"


def format_padding(batch: BatchView) -> str | None:
    """Return the share of padding for a line."""
    return None if batch.padding_share is None else f"padding {batch.padding_share:.1%}"


def format_workers(batch_progress: BatchProgress) -> str:
    """Return the workers that process the batch, with their numbers of jobs."""
    workers = [
        f"{worker.host or worker.worker_id} {worker.device or ''}".rstrip()
        + f" ({terminal.format_count(worker.jobs, 'job')})"
        for worker in batch_progress.active_workers[:MAX_WORKERS]
    ]
    more = len(batch_progress.active_workers) - len(workers)
    return ", ".join(workers) + (f" and {more:,} more" if more else "")


def format_failures(batch_progress: BatchProgress) -> str:
    """Return the numbers of failures by error code."""
    failures = [f"{count:,} {code}" for code, count in batch_progress.failures[:MAX_CODES]]
    return ", ".join(failures) + (f", {terminal.ELLIPSIS}" if len(batch_progress.failures) > len(failures) else "")


def format_blockers(batch_progress: BatchProgress) -> str:
    """Return the reasons why no worker processes the batch."""
    return terminal.to_printable("; ".join(blocker.message for blocker in batch_progress.waiting_for))


@contextmanager
def _live_view(tracker: ProgressTracker, title: str) -> Iterator[UpdateView]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    bar = progress.make_bar()
    task = bar.add_task(title, total=None, count="0", note="")
    with Live(bar, console=Console(stderr=True)) as live:

        def update(batch: BatchView) -> None:
            tracker.record(batch)
            counts = batch.counts
            count = f"{counts.ended:,}/{counts.total:,}" if counts.total else "0"
            bar.update(task, completed=counts.ended, total=counts.total or None, count=count, note="")
            live.update(Group(bar, Text(details(tracker.progress_for(batch)))))

        yield update
