"""A bar with details on a terminal, drawn by rich on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from producer.batches.batch_view import BatchView
from producer.batches.progress.batch_progress import Tracker
from producer.live_view import words

if TYPE_CHECKING:
    from rich.progress import Progress

UpdateView = Callable[[BatchView], object]


def make_bar(unit: str = "jobs") -> "Progress":
    """Return a bar in this unit, whose tasks have the fields `count` and `note`."""
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
def show_bar(tracker: Tracker, title: str = "running") -> Iterator[UpdateView]:
    """Show a batch's progress; the block calls the yielded function with the batch at every poll."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    bar = make_bar()
    task = bar.add_task(title, total=None, count="0", note="")
    with Live(bar, console=Console(stderr=True)) as live:

        def update(batch: BatchView) -> None:
            tracker.record(batch)
            counts = batch.counts
            count = f"{counts.ended:,}/{counts.total:,}" if counts.total else "0"
            bar.update(task, completed=counts.ended, total=counts.total or None, count=count, note="")
            live.update(Group(bar, Text(words.details(tracker.progress_for(batch)))))

        yield update
