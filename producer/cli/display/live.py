"""A live view of a batch on stderr: a bar and what stands behind it on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.privacy import terminal
from producer.batches.eta import Forecast
from producer.batches.progress import Observer, Standing
from producer.batches.views import BatchView
from producer.cli.display import batch_tables, progress

MOST_HOLDERS, MOST_CODES = 4, 6

See = Callable[[BatchView], object]


@contextmanager
def shown(observer: Observer, title: str = "running") -> Iterator[See]:
    """Show how a batch goes; the block calls what it gets with the batch at every look."""
    if sys.stderr.isatty():
        with _view(observer, title) as see:
            yield see
    else:
        lines = progress.Lines(title)

        def see_in_lines(batch: BatchView) -> None:
            observer.note(time.monotonic(), batch)
            if lines.due:  # only then ask for the rest
                counts = batch.counts
                lines(counts.ended, counts.total or None, ", ".join(noted(observer.standing(batch))))

        yield see_in_lines


def noted(standing: Standing) -> list[str]:
    """What a line says of a batch beside how many jobs are done."""
    counts, holders = standing.batch.counts, len(standing.holders)
    parts = [
        pace(standing),
        remaining(standing.forecast),
        f"{counts.failed:,} failed" if counts.failed else None,
        terminal.counted(holders, "worker") if holders else None,
        padding(standing.batch),
        f"waiting: {waiting(standing)}" if standing.waiting_for else None,
    ]
    return [part for part in parts if part]


def facts(standing: Standing) -> str:
    """What stands under the bar."""
    pairs = [
        ("jobs", ", ".join(f"{count:,} {name}" for name, count in batch_tables.counted(standing.batch))),
        ("pace", ", ".join(part for part in (pace(standing), remaining(standing.forecast)) if part)),
        ("workers", holders(standing)),
        ("padding", batch_tables.share(standing.batch.padding_share)),
        ("failures", failures(standing)),
        ("waiting", waiting(standing)),
    ]
    return terminal.facts([(f"  {name}", value) for name, value in pairs if value])


def pace(standing: Standing) -> str | None:
    """How fast it goes at present; since its beginning where that is not known yet."""
    forecast = standing.forecast
    return batch_tables.rate(standing.batch.jobs_per_second if forecast is None else forecast.jobs_per_second)


def remaining(forecast: Forecast | None) -> str | None:
    """How long it will take, and between which bounds that is likely: `about 3 min left (2 min to 5 min)`."""
    if forecast is None:
        return None
    latest = "no telling" if forecast.latest is None else batch_tables.lasting(forecast.latest)
    return f"about {batch_tables.lasting(forecast.seconds)} left ({batch_tables.lasting(forecast.soonest)} to {latest})"


def padding(batch: BatchView) -> str | None:
    """The share of padding, in a word."""
    return None if batch.padding_share is None else f"padding {batch.padding_share:.1%}"


def holders(standing: Standing) -> str:
    """Who works on it, and on how many jobs."""
    named = [
        f"{holder.host or holder.worker_id} {holder.device or ''}".rstrip()
        + f" ({terminal.counted(holder.jobs, 'job')})"
        for holder in standing.holders[:MOST_HOLDERS]
    ]
    more = len(standing.holders) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def failures(standing: Standing) -> str:
    """What failed, by error code."""
    named = [f"{count:,} {code}" for code, count in standing.failures[:MOST_CODES]]
    return ", ".join(named) + (f", {terminal.ELLIPSIS}" if len(standing.failures) > len(named) else "")


def waiting(standing: Standing) -> str:
    """Why nobody works on it."""
    return terminal.printable("; ".join(blocker.message for blocker in standing.waiting_for))


@contextmanager
def _view(observer: Observer, title: str) -> Iterator[See]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    bar = progress.bar()
    task = bar.add_task(title, total=None, count="0", note="")
    with Live(bar, console=Console(stderr=True)) as live:

        def see(batch: BatchView) -> None:
            observer.note(time.monotonic(), batch)
            counts = batch.counts
            count = f"{counts.ended:,}/{counts.total:,}" if counts.total else "0"
            bar.update(task, completed=counts.ended, total=counts.total or None, count=count, note="")
            live.update(Group(bar, Text(facts(observer.standing(batch)))))

        yield see
