"""`batchmill doctor` checks that every part is reachable and healthy, and says what to do if not."""

from collections.abc import Iterator

import click

from models.errors import SettingsError
from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.health import doctor as health
from producer.health.findings import PROBLEM, Finding, report_as_dict

EXIT_PROBLEMS, EXIT_UNREACHABLE = 1, 5


@click.command(short_help="Check that every part is there and healthy.")
@common.json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check settings, disk, Redis, the database, workers, the backlog, stuck batches, maintenance and schedules.

    Each line is ok, a warning or a problem, with what to do. Exit code 1 with problems, 5 when Redis or the database
    does not respond.
    """
    findings = []
    for finding in _run_checks():
        findings.append(finding)
        if not as_json:
            click.echo(_format_finding(finding))
    code = _exit_code(findings)
    if as_json:
        terminal.echo_json(report_as_dict(findings))
    ctx.exit(code)


def _run_checks() -> Iterator[Finding]:
    try:
        settings = Settings.load()
    except SettingsError as error:
        yield Finding(PROBLEM, "settings", str(error), "correct it first: the other checks need the settings")
    else:
        yield from health.run_checks(settings)


def _format_finding(finding: Finding) -> str:
    advice = f"; {finding.advice}" if finding.advice else ""
    return terminal.to_printable(f"{finding.level:<8} {finding.subject:<9} {finding.message}{advice}")


def _exit_code(findings: list[Finding]) -> int:
    if any(finding.unreachable for finding in findings):
        return EXIT_UNREACHABLE
    return EXIT_PROBLEMS if any(finding.level == PROBLEM for finding in findings) else 0
