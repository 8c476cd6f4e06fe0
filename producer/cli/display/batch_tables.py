"""How batches and results look on a terminal."""

from collections.abc import Sequence
from datetime import datetime

from models.pipelines import redaction
from models.privacy import terminal
from models.states import BatchStatus
from producer.batches.views import BatchView
from producer.cli.display import output_text
from producer.results.pages import ResultRow, iso


def batch_line(batch: BatchView) -> list[object]:
    """A batch in the table of `batchmill ls`."""
    counts = batch.counts
    done = f"{counts.ended:,}/{counts.total:,}"
    return [batch.id, batch.status.value, batch.pipeline, done, counts.failed, _when(batch), batch.name or ""]


def batch_facts(batch: BatchView) -> str:
    """A batch for a person."""
    counts = batch.counts
    ended = [(name, moment) for name, moment in batch.moments.items() if moment is not None]
    known: list[tuple[str, object]] = [
        ("batch", batch.id),
        ("name", batch.name),
        ("status", batch.status.value),
        ("error", batch.error_code and f"{batch.error_code}: {batch.error_message}"),
        ("jobs", f"{counts.total:,} in all"),
        ("", ", ".join(f"{count:,} {name}" for name, count in counted(batch))),
        ("", batch.reading and "more is being read in"),
        ("reused", batch.reused and f"{batch.reused:,} of them from earlier batches"),
        ("pipeline", f"{batch.pipeline} (task {batch.task})"),
        ("model", f"{batch.model}@{batch.revision or 'settled by the first worker'}"),
        ("ran as", batch.dtype and f"{batch.dtype} on {batch.device}"),
        ("parameters", batch.parameters and terminal.compact(redaction.parameters(batch.parameters))),
        ("priority", batch.priority or None),
        ("metadata", batch.metadata and terminal.compact(batch.metadata)),
        *((name.removesuffix("_at").replace("_", " "), iso(moment)) for name, moment in ended),
        ("pace", rate(batch.jobs_per_second)),
        ("padding", share(batch.padding_share)),
        ("device", busy(batch)),
    ]
    return terminal.facts([(name, value) for name, value in known if value])


def summary(batch: BatchView) -> str:
    """One sentence on how a batch stands."""
    parts = [f"{batch.id} {batch.status.value.replace('_', ' ')}: {terminal.counted(batch.counts.total, 'job')}"]
    parts += [f"{count:,} {name}" for name, count in counted(batch)]
    parts += ["more being read in"] if batch.reading else []
    parts += [f"{batch.reused:,} reused"] if batch.reused else []
    parts += [part for part in (rate(batch.jobs_per_second), batch.error_message) if part]
    return terminal.printable(", ".join(parts))


def unserved(pipeline: str) -> str:
    """What to do where nobody works."""
    return f"no worker serves {pipeline} now; start one: batchmill up --pipelines {pipeline}"


def result_lines(rows: Sequence[ResultRow], width: int) -> list[str]:
    """Results in columns: position, custom_id, answer and the beginning of the input, `width` columns in all."""
    lines = []
    for row in rows:
        name, outcome = terminal.shortened(row.custom_id or "", 16), terminal.shortened(output_text.told(row), 40)
        start = f"{row.position:>7}  {name:<16}  {outcome:<28}  "
        lines.append(start + terminal.shortened(output_text.given(row), max(20, width - terminal.wide(start))))
    return lines


def rate(jobs_per_second: float | None) -> str | None:
    """A pace, as exactly as it means something."""
    if jobs_per_second is None:
        return None
    return f"{jobs_per_second:,.0f} jobs/s" if jobs_per_second >= 10 else f"{jobs_per_second:.2g} jobs/s"


def lasting(seconds: float) -> str:
    """A length of time, as exactly as an estimate means something."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def busy(batch: BatchView) -> str | None:
    """How much of its time the device computed for a batch."""
    share = batch.devices_busy
    return None if share is None else f"{batch.device_seconds:,.1f} s, {share:.0%} of the time of one"


def share(padding: float | None) -> str | None:
    """A share of padding in per cent."""
    return None if padding is None else f"{padding:.1%} of the tokens"


def counted(batch: BatchView) -> list[tuple[str, int]]:
    """How many of a batch's jobs came to what."""
    counts = batch.counts
    named = [
        ("succeeded", counts.completed), ("failed", counts.failed), ("cancelled", counts.cancelled),
        ("expired", counts.expired), ("open", counts.open),
    ]  # fmt: skip
    always = ("succeeded", "failed") if batch.status is not BatchStatus.VALIDATING else ()
    return [(name, count) for name, count in named if count or name in always]


def _when(batch: BatchView) -> str:
    created: datetime | None = batch.moments["created_at"]
    return "" if created is None else created.astimezone().strftime("%Y-%m-%d %H:%M:%S")
