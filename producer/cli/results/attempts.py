"""`batchmill attempts`: what happened to a batch's claims on the way, or to one job."""

from datetime import datetime

import click

from models.errors import UsageError
from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.results import attempts as history
from producer.results.attempts import AttemptView

HEADER = ("POSITIONS", "TRY", "ENDING", "CLAIMED", "ENDED", "WORKER", "ERROR")
ERROR_COLUMNS = 60


@click.command(short_help="Show the tries of a batch that did not just succeed, or of one job.")
@click.argument("batch_id", metavar="ID")
@click.option("--position", type=click.IntRange(min=0), help="Only the job at this position, and all about it.")
@click.option("--id", "custom_id", help="Only the job with this custom_id, and all about it.")
@click.option("--limit", "-n", type=click.IntRange(min=1, max=100_000), default=100, show_default=True)
@common.json_option
def attempts(batch_id: str, position: int | None, custom_id: str | None, limit: int, as_json: bool) -> None:
    """Show how claims of the batch ID ended that did not just succeed: the last ones, oldest first.

    Of one job show every claim, the results that a replay took back, and its result.
    """
    if position is not None and custom_id is not None:
        raise UsageError("--position and --id both name the job; give one of them")
    with common.opened(Settings.load()) as database:
        if custom_id is not None:
            position = history.position_of(database, batch_id, custom_id)
        if position is not None:
            found = history.of_job(database, batch_id, position)
        else:
            found = history.of_batch(database, batch_id, limit)
    if as_json:
        terminal.echo_list([view.as_dict() for view in found])
    elif found:
        click.echo(terminal.table(HEADER, [_line(view) for view in found]))
    else:
        terminal.notice("nothing has happened to it yet" if position is not None else "every claim just succeeded")


def _line(view: AttemptView) -> list[object]:
    positions = str(view.first) if view.past - view.first == 1 else f"{view.first}-{view.past - 1}"
    ended = {"result": f"result: {view.ending}", "past_result": f"replayed: {view.ending}"}.get(view.kind, view.ending)
    error = view.error_code and terminal.shortened(f"{view.error_code}: {view.error_message or ''}", ERROR_COLUMNS)
    return [positions, view.number, ended, _clock(view.claimed_at), _clock(view.ended_at), view.worker_id or "", error]


def _clock(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
