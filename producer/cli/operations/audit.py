"""`batchmill audit` verifies that every accepted job has exactly one result, or is open and will run."""

from collections.abc import Iterator

import click

from models.db import Database
from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.cli.display import progress
from producer.health import audit as health
from producer.health.audit import AuditProblem, AuditSummary, BatchAudit

EXIT_PROBLEMS = 1


@click.command(short_help="Verify that every job has exactly one result.")
@click.argument("batch_id", metavar="[ID]", required=False)
@common.json_option
@click.pass_context
def audit(ctx: click.Context, batch_id: str | None, as_json: bool) -> None:
    """Recompute from the rows the counters, order, slices and fencing tokens of the batch ID, or of every batch.

    The audit reads a snapshot of each batch and blocks no workers. Exit code 1 when something is lost, duplicated or
    contradictory.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        audits = (
            [health.audit_batch(database, batch_id, settings.lease_seconds)]
            if batch_id
            else _audit_all(database, settings.lease_seconds)
        )
        summary = AuditSummary(audits)
    (_print_json if as_json else _print_text)(summary)
    if summary.unsound:
        ctx.exit(EXIT_PROBLEMS)


def _audit_all(database: Database, lease_seconds: float) -> Iterator[BatchAudit]:
    """Audit all batches with a progress report on stderr."""
    total = health.count_batches(database)
    with progress.show_progress("audit", "batches") as report:
        for number, batch_audit in enumerate(health.audit_all(database, lease_seconds), start=1):
            yield batch_audit
            report(number, max(total, number), "")


def _print_text(summary: AuditSummary) -> None:
    for problem in summary.problems:
        click.echo(_format_problem(problem))
    verdict = terminal.format_count(summary.unsound, "problem") if summary.unsound else "nothing lost, nothing twice"
    batches = f"{summary.batches:,} batch{'' if summary.batches == 1 else 'es'}"
    click.echo(f"audited {batches}, {terminal.format_count(summary.jobs, 'job')}: {verdict}")


def _print_json(summary: AuditSummary) -> None:
    terminal.echo_json(summary.as_dict())


def _format_problem(problem: AuditProblem) -> str:
    level = "warning" if problem.is_warning else "problem"
    return terminal.to_printable(f"{level}  {problem.batch_id}  {problem.message}{_format_places(problem)}")


def _format_places(problem: AuditProblem) -> str:
    if not problem.places:
        return ""
    noun = problem.place_noun if len(problem.places) == 1 else f"{problem.place_noun}s"
    more = f", {terminal.ELLIPSIS}" if problem.count and problem.count > len(problem.places) else ""
    return f" ({noun} {', '.join(map(str, problem.places))}{more})"
