"""`batchmill attempts`: the history of a batch's claims, or of one job."""

import click

from models.errors import UsageError
from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.results import attempts as history
from producer.results.attempts import AttemptView
from producer.times import format_local

HEADER = ("POSITIONS", "ATTEMPT", "OUTCOME", "CLAIMED", "ENDED", "WORKER", "ERROR")
ERROR_WIDTH = 60


@click.command(short_help="Show failed and retried attempts of a batch, or all attempts of one job.")
@click.argument("batch_id", metavar="ID")
@click.option(
    "--position", type=click.IntRange(min=0), metavar="N", help="Only the job at this position, with all its attempts."
)
@click.option("--id", "custom_id", metavar="CUSTOM_ID", help="Only the job with this custom_id, with all its attempts.")
@common.limit_option("attempts of a batch", most=100_000, default=100)
@common.json_option
def attempts(batch_id: str, position: int | None, custom_id: str | None, limit: int, as_json: bool) -> None:
    """Show the failed and retried attempts of the batch ID: the last ones, oldest first.

    For one job, show every attempt, the results that a retry superseded, and the result.
    """
    if position is not None and custom_id is not None:
        raise UsageError("--position and --id both name the job; give one of them")
    with common.open_database(Settings.load()) as database:
        if custom_id is not None:
            position = history.find_position(database, batch_id, custom_id)
        if position is not None:
            views = history.job_history(database, batch_id, position)
        else:
            views = history.list_attempts(database, batch_id, limit)
    if as_json:
        terminal.echo_list([view.as_dict() for view in views])
    elif views:
        click.echo(terminal.format_table(HEADER, [_table_row(view) for view in views]))
    else:
        terminal.print_notice(
            "nothing has happened to it yet" if position is not None else "every attempt succeeded at once"
        )


def _table_row(view: AttemptView) -> list[object]:
    positions = (
        str(view.start_position)
        if view.end_position - view.start_position == 1
        else f"{view.start_position}-{view.end_position - 1}"
    )
    outcome = {"result": f"result: {view.outcome}", "superseded_result": f"superseded: {view.outcome}"}.get(
        view.kind, view.outcome
    )
    error = view.error_code and terminal.shorten(f"{view.error_code}: {view.error_message or ''}", ERROR_WIDTH)
    return [
        positions,
        view.attempt,
        outcome,
        format_local(view.claimed_at),
        format_local(view.ended_at),
        view.worker_id or "",
        error,
    ]
