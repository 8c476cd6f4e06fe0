"""`batchmill audit`: is every input that was accepted one row, or open and sure to be run?"""

from collections.abc import Iterable

import click

from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.health import audit as auditor
from producer.health.audit import AuditProblem, BatchAudit

EXIT_PROBLEMS = 1


@click.command(short_help="Prove from the rows that nothing is lost and nothing twice.")
@click.argument("batch_id", metavar="[ID]", required=False)
@common.json_option
@click.pass_context
def audit(ctx: click.Context, batch_id: str | None, as_json: bool) -> None:
    """Recompute from the rows what the batch ID, or every batch, says of itself: counters, order, slices and fences.

    It reads one moment of each batch and holds nobody up, so it is right while workers run. Exit code 1 when something
    is lost, twice or contradicts itself.
    """
    settings = Settings.load()
    with common.open_database(settings) as database:
        found = (
            [auditor.audit_batch(database, batch_id, settings.lease_seconds)]
            if batch_id
            else auditor.audit_all(database, settings.lease_seconds)
        )
        sound = _print_json(found) if as_json else _print_text(found)
    if not sound:
        ctx.exit(EXIT_PROBLEMS)


def _print_text(audits: Iterable[BatchAudit]) -> bool:
    batches = jobs = problems = 0
    for audited in audits:
        batches, jobs = batches + 1, jobs + audited.jobs
        problems += sum(not problem.is_warning for problem in audited.problems)
        for problem in audited.problems:
            click.echo(_format_problem(problem))
    verdict = "nothing lost, nothing twice" if not problems else terminal.format_count(problems, "problem")
    click.echo(
        f"audited {batches:,} batch{'' if batches == 1 else 'es'}, {terminal.format_count(jobs, 'job')}: {verdict}"
    )
    return not problems


def _print_json(audits: Iterable[BatchAudit]) -> bool:
    seen = [(audited.jobs, audited.is_sound, audited.problems) for audited in audits]
    sound = all(each_sound for _, each_sound, _ in seen)
    terminal.echo_json(
        {
            "object": "audit",
            "batches": len(seen),
            "jobs": sum(jobs for jobs, _, _ in seen),
            "sound": sound,
            "problems": [problem.as_dict() for _, _, problems in seen for problem in problems],
        }
    )
    return sound


def _format_problem(problem: AuditProblem) -> str:
    level = "warning" if problem.is_warning else "problem"
    return terminal.to_printable(f"{level}  {problem.batch_id}  {problem.message}{_format_places(problem)}")


def _format_places(problem: AuditProblem) -> str:
    if not problem.places:
        return ""
    noun = problem.place_noun if len(problem.places) == 1 else f"{problem.place_noun}s"
    more = f", {terminal.ELLIPSIS}" if problem.count and problem.count > len(problem.places) else ""
    return f" ({noun} {', '.join(map(str, problem.places))}{more})"
