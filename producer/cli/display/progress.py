"""Progress reports on stderr: a live bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress

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


def make_bar(unit: str = "jobs") -> "Progress":
    """Return a bar for a terminal in this unit, whose tasks have the fields `count` and `note`."""
    from rich import progress  # the import takes 0.1 s, so only where a bar is shown
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn(f"{{task.fields[count]}} {unit}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[note]}"),
    )
    return progress.Progress(*columns, console=Console(stderr=True), transient=False)


@contextmanager
def _live_bar(title: str, unit: str) -> Iterator[ReportProgress]:
    with make_bar(unit) as bar:
        task = bar.add_task(title, total=None, count="0", note="")

        def report(done: int, total: int | None, note: str) -> None:
            count = f"{done:,}" if total is None else f"{done:,}/{total:,}"
            bar.update(task, completed=done, total=total, count=count, note=note)

        yield report
