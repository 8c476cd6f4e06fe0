"""The commands under `batchmill models`: list, fetch and explain models."""

from pathlib import Path
from typing import Any

import click

from models import schema
from models.errors import UsageError
from models.pipelines import redaction
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.privacy import terminal
from models.settings import Settings
from worker.loading import inventory, snapshots
from worker.loading.inventory import InventoryItem
from worker.loading.snapshots import Snapshot

HEADER = ("MODEL", "REVISION", "WHERE", "SIZE", "BATCHES", "PIPELINES")


@click.group(short_help="List, fetch and explain models.")
def models() -> None:
    """The models that pipelines name: in the Hub's cache (HF_HOME), in folders, or bundled."""


@models.command(short_help="List the models, here or not.")
@terminal.json_option
def ls(as_json: bool) -> None:
    """List the catalogue's models, on this machine or not, and all other models in the Hub's cache."""
    settings = Settings.load()
    database = schema.open_database(settings, max_connections=1)
    items = inventory.list_models(database, Catalogue.load(settings))
    database.close()
    if as_json:
        terminal.echo_list([item.as_dict() for item in items])
    else:
        click.echo(terminal.format_table(HEADER, [_table_row(item) for item in items]))


@models.command(short_help="Fetch a pipeline's model into the Hub's cache.")
@click.argument("pipeline")
@click.option("--convert", is_flag=True, help="If there are only pickled weights, write safetensors beside them.")
@terminal.json_option
def pull(pipeline: str, convert: bool, as_json: bool) -> None:
    """Fetch the model and the tokenizer of PIPELINE, at its pinned revision, so that workers need no network."""
    entry = Catalogue.load(Settings.load())[pipeline]
    files = _fetch(entry, convert=convert)
    words = snapshots.fetch_tokenizer(entry, files)
    size = inventory.folder_size_bytes(files.folder)
    if as_json:
        terminal.echo_json({"object": "model", "model": files.name, "revision": files.revision, "size_bytes": size})
        return
    terminal.print_notice(f"{files.name}@{files.revision} is here, {_format_size(size)}")
    if words != files:
        terminal.print_notice(f"its tokenizer {words.name}@{words.revision} is here, too")


@models.command(short_help="Explain a pipeline's model.")
@click.argument("pipeline")
@terminal.json_option
def show(pipeline: str, as_json: bool) -> None:
    """Show PIPELINE's model, its files on this machine, and the batches that used it."""
    settings = Settings.load()
    entry = Catalogue.load(settings)[pipeline]
    files = snapshots.find_local_model(entry)
    database = schema.open_database(settings, max_connections=1)
    revision = files.revision if files else entry.revision
    uses = inventory.list_batches(database, entry.model, revision) if revision else []
    database.close()
    known = [
        ("pipeline", f"{entry.name} (task {entry.task})"),
        ("model", entry.model),
        ("revision", revision),
        ("tokenizer", entry.tokenizer or "the model's own, of the same revision"),
        ("licence", entry.licence),
        ("what", entry.description),
        ("size", _format_size(inventory.folder_size_bytes(files.folder)) if files else None),
        ("folder", files.folder if files else f"not here; fetch it: batchmill models pull {pipeline}"),
        ("class", _architectures(files)),
        ("batches", ", ".join(use.id for use in uses) or "none yet"),
    ]
    if as_json:
        names = {**dict(known), "pipeline": redaction.redact_pipeline(entry), "batches": [use.id for use in uses]}
        terminal.echo_json({"object": "model", **{name: _to_json_value(value) for name, value in names.items()}})
    else:
        click.echo(terminal.format_pairs([(name, value) for name, value in known if value]))


def _fetch(pipeline: Pipeline, *, convert: bool) -> Snapshot:
    if convert:
        if pipeline.folder is not None:
            raise UsageError(f"{pipeline.name} is a folder; --convert is for models of the Hub")
        from worker.loading import safetensors_conversion  # loading torch takes seconds

        safetensors_conversion.convert(pipeline.model, snapshots.fetch_model_unchecked(pipeline).folder)
    return snapshots.fetch_model(pipeline)


def _architectures(files: Snapshot | None) -> str | None:
    return ", ".join(map(str, files.config.get("architectures") or ())) if files else None


def _table_row(item: InventoryItem) -> list[object]:
    revision = (item.revision or "settled once per batch")[:22]
    return [
        item.model,
        revision,
        item.location,
        _format_size(item.size_bytes),
        item.batch_count,
        ", ".join(item.pipeline_names),
    ]


def _format_size(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.1f} MB"


def _to_json_value(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
