"""How things look on a terminal. Results and names are untrusted text: nothing of theirs may steer the terminal."""

import json
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from models.states import BatchStatus
from producer.batches import BatchView
from producer.results import ResultRow, iso

ELLIPSIS = "…"


def printable(text: str) -> str:
    """The text in one line, without what could move the cursor, hide or reorder it."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def shortened(text: str, width: int) -> str:
    """The text, printable and at most so many columns wide."""
    text = " ".join(printable(text[: 4 * width]).split())
    if wide(text) <= width:
        return text
    while wide(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + ELLIPSIS


def wide(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns, numbers to the right; never cut, so that it can be searched."""
    lines = [list(header), *([_cell(cell) for cell in row] for row in rows)]
    numeric = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    widths = [max(wide(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(_aligned(*of_cell) for of_cell in zip(line, widths, numeric, strict=True)).rstrip() for line in lines
    )


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name:<{width}}  {_cell(value)}" for name, value in pairs)


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
        ("", ", ".join(f"{count:,} {name}" for name, count in _counted(batch))),
        ("pipeline", f"{batch.pipeline} (task {batch.task})"),
        ("model", f"{batch.model}@{batch.revision or 'settled by the first worker'}"),
        ("ran as", batch.dtype and f"{batch.dtype} on {batch.device}"),
        ("parameters", batch.parameters and compact(batch.parameters)),
        ("priority", batch.priority or None),
        ("metadata", batch.metadata and compact(batch.metadata)),
        *((name.removesuffix("_at").replace("_", " "), iso(moment)) for name, moment in ended),
        ("pace", rate(batch.jobs_per_second)),
        ("padding", share(batch.padding_share)),
    ]
    return facts([(name, value) for name, value in known if value])


def summary(batch: BatchView) -> str:
    """One sentence on how a batch stands."""
    parts = [f"{batch.id} {batch.status.value.replace('_', ' ')}: {counted(batch.counts.total, 'job')}"]
    parts += [f"{count:,} {name}" for name, count in _counted(batch)]
    parts += [part for part in (rate(batch.jobs_per_second), batch.error_message) if part]
    return printable(", ".join(parts))


def counted(count: int, noun: str) -> str:
    """So many of something."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def unserved(pipeline: str) -> str:
    """What to do where nobody works."""
    return f"no worker serves {pipeline} now; start one: batchmill up --pipelines {pipeline}"


def result_lines(rows: Sequence[ResultRow], width: int) -> list[str]:
    """Results in columns: position, custom_id, answer and the beginning of the input, `width` columns in all."""
    lines = []
    for row in rows:
        start = f"{row.position:>7}  {shortened(row.custom_id or '', 16):<16}  {shortened(answer(row), 40):<28}  "
        lines.append(start + shortened(" | ".join(map(str, row.input.values())), max(20, width - wide(start))))
    return lines


def answer(row: ResultRow) -> str:
    """What came out: `POSITIVE 0.9998`, other outputs as JSON, or the error."""
    if row.error_code is not None or row.output is None:
        return f"{row.status.value}: {row.error_code or ''}".rstrip(": ")
    if isinstance(row.output, dict) and set(row.output) == {"label", "score"}:
        return f"{row.output['label']} {row.output['score']:.4f}"
    return compact(row.output)


def compact(value: Any) -> str:
    """A document in one line."""
    return json.dumps(value, ensure_ascii=False)


def rate(jobs_per_second: float | None) -> str | None:
    """A pace, as exactly as it means something."""
    if jobs_per_second is None:
        return None
    return f"{jobs_per_second:,.0f} jobs/s" if jobs_per_second >= 10 else f"{jobs_per_second:.2g} jobs/s"


def share(padding: float | None) -> str | None:
    """A share of padding in per cent."""
    return None if padding is None else f"{padding:.1%} of the tokens"


def terminal_width() -> int:
    """How many columns there are."""
    return shutil.get_terminal_size((100, 24)).columns


def echo_json(document: Any) -> None:
    """Print a document; on a terminal everything but ASCII is escaped, since it may steer the terminal."""
    click.echo(json.dumps(document, ensure_ascii=sys.stdout.isatty(), indent=2 if sys.stdout.isatty() else None))


def echo_list(documents: Sequence[dict[str, Any]]) -> None:
    """Print a list as OpenAI's API does."""
    echo_json({"object": "list", "data": list(documents)})


def notice(sentence: str) -> None:
    """Say something beside the data."""
    click.echo(sentence, err=True)


def _counted(batch: BatchView) -> list[tuple[str, int]]:
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


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else printable(str(value))


def _aligned(text: str, width: int, numeric: bool) -> str:
    gap = " " * (width - wide(text))
    return gap + text if numeric else text + gap


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
