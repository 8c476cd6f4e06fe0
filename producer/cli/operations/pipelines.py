"""`batchmill pipelines` lists the catalogue."""

from typing import Any

import click

from models.pipelines import redaction
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.privacy import terminal
from models.settings import Settings
from producer.cli import common

HEADER = ("PIPELINE", "TASK", "INPUT", "MODEL", "REVISION", "DEVICE", "DTYPE", "WHAT")


@click.command(short_help="List the catalogue's pipelines.")
@common.json_option
def pipelines(as_json: bool) -> None:
    """List the catalogue's pipelines, whose names `--pipeline` takes."""
    catalogue = Catalogue.load(Settings.load()).values()
    if as_json:
        terminal.echo_list([_as_dict(pipeline) for pipeline in catalogue])
    else:
        click.echo(terminal.format_table(HEADER, [_table_row(pipeline) for pipeline in catalogue]))


def _table_row(pipeline: Pipeline) -> list[object]:
    return [
        pipeline.name,
        pipeline.task,
        pipeline.spec.field_names,
        pipeline.model,
        (pipeline.revision or "resolved per batch")[:22],
        pipeline.device,
        pipeline.dtype,
        pipeline.description,
    ]


def _as_dict(pipeline: Pipeline) -> dict[str, Any]:
    return {"object": "pipeline", **redaction.redact_pipeline(pipeline)}
