"""Progress reports on stderr: a live bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from producer.batches.progress.progress_tracker import ProgressTracker
from producer.batches.views import BatchView
from producer.live_view import words
from producer.live_view.bar import UpdateView, make_bar, show_bar

LINE_INTERVAL_SECONDS = 5.0
REPEAT_INTERVAL_SECONDS = 60.0  # between equal lines

ReportProgress = Callable[[int, int | None, str], None]  # done, total (None = unknown), note


@contextmanager
def show_progress(title: str, unit: str = "jobs") -> Iterator[ReportProgress]:
    """Show progress in this unit; the block may call the yielded function at any rate."""
    if sys.stderr.isatty():
        with _live_bar(title, unit) as report:
            yield report
    else:
        yield LineReporter(title, unit=unit)


@contextmanager
def show_batch(tracker: ProgressTracker, title: str = "running") -> Iterator[UpdateView]:
    """Show a batch's progress; the block calls the yielded function with the batch at every poll."""
    if sys.stderr.isatty():
        with show_bar(tracker, title) as update:
            yield update
    else:
        reporter = LineReporter(title)

        def update_lines(batch: BatchView) -> None:
            tracker.record(batch)
            if reporter.is_due:  # the details take queries
                counts = batch.counts
                parts = words.line_parts(tracker.progress_for(batch))
                reporter(counts.ended, counts.total or None, ", ".join(parts))

        yield update_lines


class LineReporter:
    """Prints plain lines, at most one every LINE_INTERVAL_SECONDS, and the first after as long.

    A line that equals the one before is printed only every REPEAT_INTERVAL_SECONDS.
    """

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic, unit: str = "jobs") -> None:
        self._title = title
        self._unit = unit
        self._clock = clock
        self._next_line_at = clock() + LINE_INTERVAL_SECONDS
        self._last_line, self._repeat_at = "", 0.0

    @property
    def is_due(self) -> bool:
        """Whether the next line is due."""
        return self._clock() >= self._next_line_at

    def __call__(self, done: int, total: int | None, note: str) -> None:
        """Print a line if one is due."""
        if not self.is_due:
            return
        now = self._clock()
        self._next_line_at = now + LINE_INTERVAL_SECONDS
        count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        line = f"{self._title}: {count} {self._unit}{', ' if note else ''}{note}"
        if line != self._last_line or now >= self._repeat_at:
            self._last_line, self._repeat_at = line, now + REPEAT_INTERVAL_SECONDS
            click.echo(line, err=True)


@contextmanager
def _live_bar(title: str, unit: str) -> Iterator[ReportProgress]:
    with make_bar(unit) as bar:
        task = bar.add_task(title, total=None, count="0", note="")

        def report(done: int, total: int | None, note: str) -> None:
            count = f"{done:,}" if total is None else f"{done:,}/{total:,}"
            bar.update(task, completed=done, total=total, count=count, note=note)

        yield report
