"""Progress on stderr: a live bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 5.0

Report = Callable[[int, int | None, str], None]  # done, total if known, a note


@contextmanager
def shown(title: str) -> Iterator[Report]:
    """Show how far something is; the block calls what it gets as often as it likes."""
    if sys.stderr.isatty():
        with _bar(title) as report:
            yield report
    else:
        yield Lines(title)


class Lines:
    """Plain lines, at most one every LINE_SECONDS, and none for what is over sooner."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._clock = clock
        self._next = clock() + LINE_SECONDS

    @property
    def due(self) -> bool:
        """Whether it is time for the next line."""
        return self._clock() >= self._next

    def __call__(self, done: int, total: int | None, note: str) -> None:
        """Print where things stand, when it is time."""
        if not self.due:
            return
        self._next = self._clock() + LINE_SECONDS
        known = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        click.echo(f"{self._title}: {known} jobs{', ' if note else ''}{note}", err=True)


def bar() -> "Progress":
    """A bar for a terminal; its tasks have a `count` and a `note`."""
    from rich import progress  # a tenth of a second, so only for those who see it
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
def _bar(title: str) -> Iterator[Report]:
    with bar() as shown_bar:
        task = shown_bar.add_task(title, total=None, count="0", note="")

        def report(done: int, total: int | None, note: str) -> None:
            count = f"{done:,}" if total is None else f"{done:,}/{total:,}"
            shown_bar.update(task, completed=done, total=total, count=count, note=note)

        yield report
