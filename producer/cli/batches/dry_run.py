"""`batchmill submit --dry-run`: what a submission would come to, for a person or a program."""

import click

from models.privacy import terminal
from models.settings import Settings
from producer.cli.display import progress
from producer.readers.rows import Source
from producer.submission import dry_run
from producer.submission.dry_run import PROBLEMS_NAMED, Rehearsal
from producer.submission.request import Request

BAR_COLUMNS = 40


def shown(settings: Settings, request: Request, source: Source, *, as_json: bool) -> bool:
    """Rehearse a submission and print what came of it; returns whether it would be accepted."""
    with progress.shown("checking") as report:
        found = dry_run.rehearsed(request, source, settings.slice_jobs, lambda rows: report(rows, None, ""))
    found.jobs_per_second = dry_run.pace(settings.database, request.pipeline.name)
    if as_json:
        terminal.echo_json(found.as_dict())
    else:
        click.echo(_told(found))
    accepted = request.keeps_invalid or not found.bad
    terminal.notice(f"a dry run: nothing was submitted{'' if accepted else ', and this would be refused'}")
    return accepted


def _told(found: Rehearsal) -> str:
    known: list[tuple[str, object]] = [
        ("rows", f"{found.rows:,}"),
        ("jobs", f"{found.jobs:,} in {terminal.counted(found.slices, 'slice')}"),
        ("bad rows", _bad(found)),
        *(("", terminal.printable(problem)) for problem in found.problems),
        ("takes", _takes(found)),
        ("length", f"in {found.lengths.unit}, {found.lengths.longest:,} at most"),
        *(("", line) for line in _bars(found.lengths.rows())),
    ]
    return terminal.facts(known)


def _bad(found: Rehearsal) -> str:
    if not found.bad:
        return "none"
    codes = ", ".join(f"{count:,} {code}" for code, count in found.bad.most_common())
    more = f"; the first {PROBLEMS_NAMED}:" if found.bad.total() > PROBLEMS_NAMED else ":"
    return f"{found.bad.total():,} ({codes}){more}"


def _takes(found: Rehearsal) -> str:
    if found.seconds is None:
        return "not known: no batch of this pipeline has been answered yet"
    return (
        f"about {found.seconds:,.0f} s at {found.jobs_per_second:,.1f} jobs/s, the pace of this pipeline's last batches"
    )


def _bars(rows: list[tuple[int, int]]) -> list[str]:
    if not rows:
        return []
    most = max(count for _, count in rows)
    width = len(f"{rows[-1][0]:,}")
    return [f"≤ {top:>{width},}  {'█' * -(-BAR_COLUMNS * count // most)} {count:,}".rstrip() for top, count in rows]
