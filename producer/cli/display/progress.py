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

ReportProgress = Callable[[int, int | None, str], None]  # done, total (None = unknown), note


@contextmanager
def show_progress(title: str) -> Iterator[ReportProgress]:
    """Show progress; the block may call the yielded function at any rate."""
    if sys.stderr.isatty():
        with _live_bar(title) as report:
            yield report
    else:
        yield LineReporter(title)


class LineReporter:
    """Prints plain lines, at most one every LINE_INTERVAL_SECONDS, and the first after as long."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._clock = clock
        self._next_line_at = clock() + LINE_INTERVAL_SECONDS

    @property
    def is_due(self) -> bool:
        """Whether the next line is due."""
        return self._clock() >= self._next_line_at

    def __call__(self, done: int, total: int | None, note: str) -> None:
        """Print a line if one is due."""
        if not self.is_due:
            return
        self._next_line_at = self._clock() + LINE_INTERVAL_SECONDS
        count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        click.echo(f"{self._title}: {count} jobs{', ' if note else ''}{note}", err=True)


def make_bar() -> "Progress":
    """Return a bar for a terminal, whose tasks have the fields `count` and `note`."""
    from rich import progress  # the import takes 0.1 s, so only where a bar is shown
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[count]} jobs"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[note]}"),
    )
    return progress.Progress(*columns, console=Console(stderr=True), transient=False)


@contextmanager
def _live_bar(title: str) -> Iterator[ReportProgress]:
    with make_bar() as bar:
        task = bar.add_task(title, total=None, count="0", note="")

        def report(done: int, total: int | None, note: str) -> None:
            count = f"{done:,}" if total is None else f"{done:,}/{total:,}"
            bar.update(task, completed=done, total=total, count=count, note=note)

        yield report
