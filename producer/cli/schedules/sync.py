"""The command `batchmill schedule sync`, which applies the schedules of batchmill.toml."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import click

from models import clock
from models.db import Database
from models.errors import UsageError
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.settings import CONFIG_NAME, Settings, config_file
from producer.cli import common as cli_common
from producer.cli.schedules import common, run_tables, schedule_tables
from producer.schedules import config_sync, registry, validation
from producer.schedules.config_sync import SyncPlan
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import source_check
from producer.schedules.runs.source_check import PROBLEM, SourceCheck
from producer.schedules.schedule_view import ScheduleView

CHECK_HEADER = ("SCHEDULE", "CHECK", "MESSAGE")
CHECK_COLOURS = {"problem": "red", "warning": "yellow"}


@click.command(short_help="Apply the schedules of batchmill.toml.")
@click.option("--prune", is_flag=True, help="Also delete schedules that batchmill.toml declared earlier, but not now.")
@click.option("--check", is_flag=True, help="Change nothing; read one row of each source, and exit 1 on a problem.")
@click.pass_context
def sync(ctx: click.Context, prune: bool, check: bool) -> None:
    """Create and change schedules to match [schedules.NAME] in batchmill.toml; those made by hand stay.

    A schedule that was deleted and comes back continues at its watermark, with its history.
    """
    settings = Settings.load()
    catalogue, path = Catalogue.load(settings), _find_config(settings)
    terminal.print_notice(f"from {path or 'the environment'}")
    folder = None if path is None else path.parent
    with cli_common.open_database(settings) as database:
        now = clock.clock_for(settings, database)()
        if check:
            ctx.exit(_check(database, settings, catalogue, folder, now, prune=prune))
        definitions = {
            name: validation.validate(name, fields, settings, catalogue, folder)
            for name, fields in settings.schedules.items()
        }
        plan = config_sync.sync(database, definitions, now, prune=prune)
        _print_plan(database, plan, definitions, now, prune=prune)
        common.print_warnings(database, definitions.values(), settings, now)
        if definitions:
            common.warn_if_no_worker(database, settings)


def _find_config(settings: Settings) -> Path | None:
    """Return the path of batchmill.toml, or None if the environment declares schedules; raises UsageError."""
    path = config_file()
    if path is None and not settings.schedules:
        raise UsageError(
            f"there is no {CONFIG_NAME} in {Path.cwd()} or in {settings.home_path}; run this in its folder, or set "
            "BATCHMILL_CONFIG"
        )
    return None if path is None else path.absolute()


def _print_plan(
    database: Database, plan: SyncPlan, definitions: Mapping[str, ScheduleDefinition], now: datetime, *, prune: bool
) -> None:
    for verb, names in (("created", plan.created), ("restored", plan.restored), ("changed", plan.changed)):
        for name in names:
            view = registry.get(database, name)
            next_time = schedule_tables.format_next_times(view, now, 1)[0]
            click.echo("; ".join([f"{verb} {name}", f"next: {next_time}", *_watermark_note(view, verb)]))
    for name in plan.undeclared if prune else ():
        click.echo(f"deleted {name}; declared again, it takes up its history")
    if plan.undeclared and not prune:
        undeclared = ", ".join(plan.undeclared)
        terminal.print_notice(
            f"no longer declared, and left as before: {undeclared}; to delete: batchmill schedule sync --prune"
        )
    elif not plan:
        terminal.print_notice(f"nothing to do: {terminal.format_count(len(definitions), 'schedule')} declared")


def _watermark_note(view: ScheduleView, verb: str) -> list[str]:
    if verb != "restored" or view.watermark is None:
        return []
    return [f"reads on from {view.definition.format_time(view.watermark)}"]


def _check(
    database: Database, settings: Settings, catalogue: Catalogue, folder: Path | None, now: datetime, *, prune: bool
) -> int:
    """Print the outcome for each schedule and what a sync would change; return the exit code."""
    definitions: dict[str, ScheduleDefinition] = {}
    checks: dict[str, SourceCheck] = {}
    for name, fields in settings.schedules.items():
        try:
            definitions[name] = validation.validate(name, fields, settings, catalogue, folder)
        except UsageError as error:
            checks[name] = SourceCheck(PROBLEM, str(error))
        else:
            checks[name] = source_check.check_source(database, settings, catalogue, definitions[name], now)
    if checks:
        rows = [(name, check.level, check.message) for name, check in checks.items()]
        colours = [CHECK_COLOURS.get(check.level) for check in checks.values()]
        click.echo(run_tables.colour_lines(terminal.format_table(CHECK_HEADER, rows), colours))
    common.print_warnings(database, definitions.values(), settings, now)
    chain_problem = _find_chain_problem(database, definitions, prune=prune)
    if chain_problem is not None:
        terminal.print_notice(f"problem: {chain_problem}")
    plan = config_sync.plan_sync(database, definitions)
    undeclared = tuple(name for name in plan.undeclared if name not in settings.schedules)
    for verb, names in (
        ("create", plan.created),
        ("restore", plan.restored),
        ("change", plan.changed),
        ("delete" if prune else "leave, though no longer declared,", undeclared),
    ):
        if names:
            terminal.print_notice(f"a sync would {verb} {', '.join(names)}")
    return 1 if chain_problem or any(check.level == PROBLEM for check in checks.values()) else 0


def _find_chain_problem(
    database: Database, definitions: Mapping[str, ScheduleDefinition], *, prune: bool
) -> UsageError | None:
    try:
        config_sync.check_chains(database, definitions, prune=prune)
    except UsageError as error:
        return error
    return None
