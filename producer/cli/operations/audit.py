"""`batchmill audit` verifies that every accepted job has exactly one result, or is open and will run."""

from collections.abc import Iterable

import click

from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.health import audit as health
from producer.health.audit import AuditProblem, BatchAudit

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
            else health.audit_all(database, settings.lease_seconds)
        )
        is_sound = _print_json(audits) if as_json else _print_text(audits)
    if not is_sound:
        ctx.exit(EXIT_PROBLEMS)


def _print_text(audits: Iterable[BatchAudit]) -> bool:
    batches = jobs = problems = 0
    for batch_audit in audits:
        batches, jobs = batches + 1, jobs + batch_audit.jobs
        problems += sum(not problem.is_warning for problem in batch_audit.problems)
        for problem in batch_audit.problems:
            click.echo(_format_problem(problem))
    verdict = "nothing lost, nothing twice" if not problems else terminal.format_count(problems, "problem")
    click.echo(
        f"audited {batches:,} batch{'' if batches == 1 else 'es'}, {terminal.format_count(jobs, 'job')}: {verdict}"
    )
    return not problems


def _print_json(audits: Iterable[BatchAudit]) -> bool:
    batch_audits = list(audits)
    is_sound = all(batch_audit.is_sound for batch_audit in batch_audits)
    terminal.echo_json(
        {
            "object": "audit",
            "batches": len(batch_audits),
            "jobs": sum(batch_audit.jobs for batch_audit in batch_audits),
            "sound": is_sound,
            "problems": [problem.as_dict() for batch_audit in batch_audits for problem in batch_audit.problems],
        }
    )
    return is_sound


def _format_problem(problem: AuditProblem) -> str:
    level = "warning" if problem.is_warning else "problem"
    return terminal.to_printable(f"{level}  {problem.batch_id}  {problem.message}{_format_places(problem)}")


def _format_places(problem: AuditProblem) -> str:
    if not problem.places:
        return ""
    noun = problem.place_noun if len(problem.places) == 1 else f"{problem.place_noun}s"
    more = f", {terminal.ELLIPSIS}" if problem.count and problem.count > len(problem.places) else ""
    return f" ({noun} {', '.join(map(str, problem.places))}{more})"
