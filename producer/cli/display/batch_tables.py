"""Batches and results as text for the terminal."""

import itertools
from collections.abc import Sequence

from models.pipelines import redaction
from models.pipelines.pipeline import split_revision
from models.privacy import terminal, urls
from producer.batches.views import BatchView
from producer.cli.display import guard_text, output_text
from producer.live_view import words
from producer.results.result_row import ResultRow
from producer.tenants.principal import DEFAULT_TENANT
from producer.times import format_local
from producer.webhooks.batch_deliveries import Delivery


def batch_row(batch: BatchView) -> list[object]:
    """Return a batch's row in the table of `batchmill ls`."""
    counts = batch.counts
    done = f"{counts.ended:,}/{counts.total:,}"
    return [
        batch.id,
        batch.status.value,
        batch.pipeline,
        done,
        counts.failed,
        format_local(batch.timestamps["created_at"]),
        batch.name or "",
    ]


def batch_details(batch: BatchView, follower_ids: Sequence[str] = (), deliveries: Sequence[Delivery] = ()) -> str:
    """Return a batch's details, one per line.

    follower_ids: the batches whose inputs are results of it
    deliveries: the deliveries of its events to its webhook
    """
    counts = batch.counts
    timestamps = [(name, timestamp) for name, timestamp in batch.timestamps.items() if timestamp is not None]
    pairs: list[tuple[str, object]] = [
        ("batch", batch.id),
        ("name", batch.name),
        ("tenant", batch.tenant != DEFAULT_TENANT and batch.tenant),
        ("status", batch.status.value),
        ("error", batch.error_code and f"{batch.error_code}: {batch.error_message}"),
        ("jobs", f"{counts.total:,} in all"),
        ("", ", ".join(f"{count:,} {name}" for name, count in words.outcome_counts(batch))),
        ("", batch.ingesting and "more is being read in"),
        ("reused", batch.reused and f"{batch.reused:,} of them from earlier batches"),
        ("inputs", batch.source_batch_id and f"results of {batch.source_batch_id}"),
        *zip(itertools.chain(["followed by"], itertools.repeat("")), follower_ids, strict=False),
        ("pipeline", f"{batch.pipeline} (task {batch.task})"),
        ("model", f"{batch.model}@{_model_revision(batch) or 'resolved by the first worker'}"),
        ("adapter", batch.adapter and f"{batch.adapter}@{batch.adapter_revision}"),
        ("ran as", batch.dtype and f"{batch.dtype} on {batch.device}"),
        ("parameters", batch.parameters and terminal.compact_json(redaction.redact_parameters(batch.parameters))),
        ("priority", batch.priority or None),
        ("metadata", batch.metadata and terminal.compact_json(batch.metadata)),
        ("webhook", batch.webhook_url and urls.redact_webhook_url(batch.webhook_url)),
        *(("", _describe_delivery(delivery)) for delivery in deliveries),
        *((name.removesuffix("_at").replace("_", " "), format_local(timestamp)) for name, timestamp in timestamps),
        ("pace", words.format_rate(batch.jobs_per_second)),
        ("padding", words.format_padding_share(batch.padding_share)),
        ("device time", format_device_use(batch)),
        ("", guard_text.format_guard_time(batch)),
        *zip(itertools.chain(["guards"], itertools.repeat("")), guard_text.guard_lines(batch.guards), strict=False),
    ]
    return terminal.format_pairs([(name, value) for name, value in pairs if value])


def _describe_delivery(delivery: Delivery) -> str:
    if delivery.delivered_at is not None:
        return f"{delivery.kind} delivered {format_local(delivery.delivered_at)}"
    attempts = terminal.format_count(delivery.attempts, "attempt")
    return (
        f"{delivery.kind} not delivered yet, after {attempts}"
        if delivery.next_delivery_at
        else (f"{delivery.kind} never delivered, after {attempts}")
    )


def _model_revision(batch: BatchView) -> str | None:
    """The revision of the model alone if the adapter has another line."""
    return batch.revision if batch.adapter is None else split_revision(batch.revision or "")[0]


def result_lines(rows: Sequence[ResultRow], width: int) -> list[str]:
    """Return results as lines of at most `width` columns: position, custom_id, output and the start of the input."""
    lines = []
    for row in rows:
        name, outcome = terminal.shorten(row.custom_id or "", 16), terminal.shorten(output_text.format_outcome(row), 40)
        if verdicts := guard_text.format_verdicts(row):
            outcome = f"{outcome}, {terminal.shorten(verdicts, 40)}"
        start = f"{row.position:>7}  {name:<16}  {outcome:<28}  "
        lines.append(
            start + terminal.shorten(output_text.format_input(row), max(20, width - terminal.display_width(start)))
        )
    return lines


def format_short_duration(seconds: float) -> str:
    """Return a duration, with tenths of a second below ten seconds."""
    return f"{max(0.1, seconds):.1f} s" if seconds < 10 else terminal.format_duration(seconds)


def format_device_use(batch: BatchView) -> str | None:
    """Return the device time of a batch with its guards, and how many devices were busy on average."""
    share = batch.devices_busy
    if share is None:
        return None
    busy = f"one device, {share:.0%} busy" if share <= 1 else f"{share:.1f} devices busy on average"
    return f"{batch.device_seconds + batch.guard_device_seconds:,.1f} s ({busy})"
