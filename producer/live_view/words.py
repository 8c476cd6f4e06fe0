"""A batch's progress in words, for terminals and notebooks."""

from collections.abc import Sequence

from models.privacy import terminal
from models.states import BatchStatus
from producer.batches.batch_view import BatchView, GuardCounts
from producer.batches.progress.batch_progress import BatchProgress
from producer.batches.progress.eta import Eta

MAX_WORKERS, MAX_CODES = 4, 6


def summary(batch: BatchView) -> str:
    """Return one sentence about a batch's progress or end."""
    parts = [f"{batch.id} {batch.status.value.replace('_', ' ')}: {terminal.format_count(batch.counts.total, 'job')}"]
    parts += [f"{count:,} {name}" for name, count in outcome_counts(batch)]
    parts += ["more being read in"] if batch.ingesting else []
    parts += [f"{batch.reused:,} reused"] if batch.reused else []
    caught = format_caught(batch.guards)
    parts += [f"guards: {caught}"] if caught else []
    parts += [part for part in (format_rate(batch.jobs_per_second), batch.error_message) if part]
    return terminal.to_printable(", ".join(parts))


def line_parts(batch_progress: BatchProgress) -> list[str]:
    """Return the parts of a line about a batch that follow its number of finished jobs."""
    counts, workers = batch_progress.batch.counts, len(batch_progress.active_workers)
    caught = format_caught(batch_progress.batch.guards)
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
        ("jobs", ", ".join(f"{count:,} {name}" for name, count in outcome_counts(batch_progress.batch))),
        ("pace", ", ".join(filter(None, (format_current_rate(batch_progress), format_time_left(batch_progress.eta))))),
        ("workers", format_workers(batch_progress)),
        ("padding", format_padding_share(batch_progress.batch.padding_share)),
        ("failures", format_failures(batch_progress)),
        ("guards", format_caught(batch_progress.batch.guards)),
        ("waiting", format_blockers(batch_progress)),
    ]
    return terminal.format_pairs([(f"  {name}", value) for name, value in pairs if value])


def outcome_counts(batch: BatchView) -> list[tuple[str, int]]:
    """Return the numbers of a batch's jobs by outcome, without most zeros."""
    counts = batch.counts
    pairs = [
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
        ("expired", counts.expired),
        ("unanswered", counts.unanswered),
    ]
    always = ("succeeded", "failed") if batch.status is not BatchStatus.VALIDATING else ()
    return [(name, count) for name, count in pairs if count or name in always]


def format_rate(jobs_per_second: float | None) -> str | None:
    """Return a rate, with as many digits as are significant."""
    if jobs_per_second is None:
        return None
    return f"{jobs_per_second:,.0f} jobs/s" if jobs_per_second >= 10 else f"{jobs_per_second:.2g} jobs/s"


def format_current_rate(batch_progress: BatchProgress) -> str | None:
    """Return the current rate, or the average rate while the current one is unknown."""
    source = batch_progress.batch if batch_progress.eta is None else batch_progress.eta
    return format_rate(source.jobs_per_second)


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


def format_padding_share(padding_share: float | None) -> str | None:
    """Return a share of padding in per cent."""
    return None if padding_share is None else f"{padding_share:.1%} of the tokens"


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


def format_caught(guards: Sequence[GuardCounts]) -> str:
    """Return what the guards caught so far, such as `injection 4 blocked; pii 12 redacted`; empty if nothing."""
    return "; ".join(f"{guard.guard} {', '.join(caught_parts(guard))}" for guard in guards if guard.caught)


def caught_parts(guard: GuardCounts) -> list[str]:
    """Return the numbers of rows that a guard caught, by what it did with them."""
    counts = (("flagged", guard.flagged), ("redacted", guard.redacted), ("blocked", guard.blocked))
    return [f"{count:,} {verdict}" for verdict, count in counts if count]
