"""`batchmill pipelines` lists the catalogue."""

import click

from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.privacy import terminal
from models.settings import Settings
from producer.catalogue import pipeline_objects
from producer.cli import common
from producer.cli.display import guard_text

GUARDS_HEADER = ("PIPELINE", "GUARD", "ON", "ACTION", "CATCHES")
HEADER = ("PIPELINE", "TASK", "INPUT", "MODEL", "REVISION", "DEVICE", "DTYPE", "WHAT")


@click.command(short_help="List the catalogue's pipelines.")
@common.json_option
def pipelines(as_json: bool) -> None:
    """List the catalogue's pipelines, whose names `--pipeline` takes, and their guards."""
    loaded = Catalogue.load(Settings.load())
    for problem in loaded.unusable.values():
        terminal.print_notice(f"warning: {problem}")
    catalogue = loaded.values()
    if as_json:
        terminal.echo_list([pipeline_objects.pipeline_object(pipeline, shows_patterns=True) for pipeline in catalogue])
    else:
        click.echo(terminal.format_table(HEADER, [_table_row(pipeline) for pipeline in catalogue]))
        if guard_rows := [row for pipeline in catalogue for row in _guard_rows(pipeline)]:
            click.echo("\n" + terminal.format_table(GUARDS_HEADER, guard_rows))


def _table_row(pipeline: Pipeline) -> list[object]:
    return [
        pipeline.name,
        pipeline.task,
        pipeline.spec.field_names,
        pipeline.model if pipeline.adapter is None else f"{pipeline.model} + {pipeline.adapter}",
        (pipeline.revision or "resolved per batch")[:22],
        pipeline.device,
        pipeline.dtype,
        pipeline.description,
    ]


def _guard_rows(pipeline: Pipeline) -> list[list[object]]:
    return [
        [pipeline.name, name, guard.on, guard.action, guard_text.describe_check(guard)]
        for name, guard in pipeline.guards.items()
    ]
