"""The commands under `batchmill models`: list, fetch and explain models."""

import itertools
from collections.abc import Mapping
from typing import Any

import click

from models import schema
from models.errors import UsageError
from models.pipelines import embedding_checks, redaction
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.privacy import terminal
from models.settings import Settings
from worker.cli import adapter_models, entry_lines, guard_models, pipeline_names
from worker.cli.effective_values import EffectiveDtypes, EffectiveLimits
from worker.cli.guard_models import FETCH_ADVICE
from worker.loading.files import inventory, snapshots
from worker.loading.files.inventory import InventoryItem
from worker.loading.files.snapshots import Snapshot

HEADER = ("MODEL", "REVISION", "WHERE", "SIZE", "DTYPE", "GPU DTYPE", "BATCHES", "PIPELINES")


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
@pipeline_names.single
@click.option("--convert", is_flag=True, help="If there are only pickled weights, write safetensors beside them.")
@terminal.json_option
def pull(pipeline: str, convert: bool, as_json: bool) -> None:
    """Fetch the model, adapter and tokenizer of PIPELINE, at its pinned revisions, so that workers need no network.

    The models of its guards are fetched as well, because it is not loaded without them.
    """
    entry = Catalogue.load(Settings.load())[pipeline]
    files, words = _fetch(entry, convert=convert)
    adapter = adapter_models.fetch(entry)
    guards = {name: _fetch(guard, convert=False) for name, guard in entry.guard_pipelines.items()}
    guard_adapters = {name: adapter_models.fetch(guard) for name, guard in entry.guard_pipelines.items()}
    if as_json:
        document = {"object": "model", **_describe_files(files, adapter)}
        guard_documents = [
            {"pipeline": name, **_describe_files(files, guard_adapters[name])} for name, (files, _) in guards.items()
        ]
        terminal.echo_json(document | ({"guards": guard_documents} if guards else {}))
        return
    _print_files(files, words, adapter)
    for name, (guard_files, guard_words) in guards.items():
        _print_files(guard_files, guard_words, guard_adapters[name], f"{name}, its guard's pipeline: ")


@models.command(short_help="Explain a pipeline's model.")
@pipeline_names.single
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
    properties = {
        "model": entry.model,
        "revision": revision,
        "tokenizer": entry.tokenizer or "the model's own, of the same revision",
        "licence": entry.licence,
        "what": entry.description,
        "size": _format_size(inventory.folder_size_bytes(files.folder)) if files else None,
        "folder": str(files.folder) if files else _missing_folder(entry),
        "class": _architectures(files),
    }
    used_by = [use.id for use in uses]
    if as_json:
        terminal.echo_json({**_describe_model(entry, files, properties), "batches": used_by})
        return
    lines = _model_lines(entry, files, properties)
    click.echo(terminal.format_pairs([*lines, ("batches", ", ".join(used_by) or "none yet")]))


def _describe_model(pipeline: Pipeline, files: Snapshot | None, properties: Mapping[str, Any]) -> dict[str, Any]:
    definitions = {name: redaction.redact_guard(guard) for name, guard in pipeline.guards.items()}
    effective = (
        EffectiveLimits.for_pipeline(pipeline).as_dict() | EffectiveDtypes.for_pipeline(pipeline, files).as_dict()
    )
    of_embeddings = {
        "vectors": embedding_checks.describe_vectors(pipeline),
        "scores": embedding_checks.describe_scores(pipeline),
    }
    return {
        "object": "model",
        "pipeline": {**redaction.redact_pipeline(pipeline), "guards": definitions},
        **properties,
        "adapter": adapter_models.describe(pipeline),
        "effective": effective | {name: value for name, value in of_embeddings.items() if value is not None},
        "guards": guard_models.describe_models(pipeline),
    }


def _model_lines(pipeline: Pipeline, files: Snapshot | None, properties: Mapping[str, Any]) -> list[tuple[str, object]]:
    limits, dtypes = EffectiveLimits.for_pipeline(pipeline), EffectiveDtypes.for_pipeline(pipeline, files)
    vectors, scores = embedding_checks.describe_vectors(pipeline), embedding_checks.describe_scores(pipeline)
    pairs = {
        "pipeline": f"{pipeline.name} (task {pipeline.task})",
        "input": entry_lines.describe_input(pipeline),
        **properties,
        "adapter": adapter_models.summary(pipeline, adapter_models.describe(pipeline)),
        "dtype": dtypes.text,
        **entry_lines.describe_options(pipeline),
        "max length": limits.max_length_text,
        "output length": limits.output_length,
        "vectors": vectors and entry_lines.describe_vectors(vectors),
        "prompts": vectors and ", ".join(vectors["prompts"]),
        "refused": (vectors or scores or {}).get("refusal"),
        "scores": scores and not scores["refusal"] and f"by {scores['function']}",
        "query prompt": scores and scores["query_prompt"] and terminal.compact_json(scores["query_prompt"]),
        "limits": pipeline.generation_limits and terminal.compact_json(pipeline.generation_limits.model_dump()),
        "parameters": terminal.compact_json(limits.parameters),
    }
    lines: list[tuple[str, object]] = [(name, value) for name, value in pairs.items() if value]
    guard_lines = guard_models.guard_lines(
        pipeline, guard_models.describe_models(pipeline), has_advice=files is not None or pipeline.folder is not None
    )
    lines += zip(itertools.chain(["guards"], itertools.repeat("")), guard_lines, strict=False)
    return lines


def _describe_files(files: Snapshot, adapter: Snapshot | None = None) -> dict[str, Any]:
    size = inventory.folder_size_bytes(files.folder)
    described = {"model": files.name, "revision": files.revision, "size_bytes": size}
    if adapter is None:
        return described
    return {**described, "adapter": adapter.name, "adapter_revision": adapter.revision}


def _print_files(files: Snapshot, words: Snapshot, adapter: Snapshot | None, prefix: str = "") -> None:
    size = _format_size(inventory.folder_size_bytes(files.folder))
    terminal.print_notice(f"{prefix}{files.name}@{files.revision} is here, {size}")
    if words != files:
        terminal.print_notice(f"its tokenizer {words.name}@{words.revision} is here, too")
    if adapter is not None:
        terminal.print_notice(f"its adapter {adapter.name}@{adapter.revision} is here, too")


def _missing_folder(pipeline: Pipeline) -> str:
    if pipeline.folder is not None:
        return f"there is no folder {pipeline.folder} on this machine; correct the entry's model"
    return f"not here; {FETCH_ADVICE.format(pipeline.name)}"


def _fetch(pipeline: Pipeline, *, convert: bool) -> tuple[Snapshot, Snapshot]:
    """Fetch the files of the model, and of its tokenizer."""
    if convert:
        if pipeline.folder is not None:
            raise UsageError(f"{pipeline.name} is a folder; --convert is for models of the Hub")
        from worker.loading.files import safetensors_conversion  # loading torch takes seconds

        safetensors_conversion.convert(pipeline.model, snapshots.fetch_model_unchecked(pipeline).folder)
    files = snapshots.fetch_model(pipeline)
    return files, snapshots.fetch_tokenizer(pipeline, files)


def _architectures(files: Snapshot | None) -> str | None:
    return ", ".join(map(str, files.config.get("architectures") or ())) if files else None


def _table_row(item: InventoryItem) -> list[object]:
    revision = (item.revision or "resolved per batch")[:22]
    return [
        item.model,
        revision,
        item.location,
        _format_size(item.size_bytes),
        item.dtype or "",
        ", ".join(sorted({dtype for dtype in item.gpu_dtypes.values() if dtype})),
        item.batch_count,
        ", ".join(item.pipeline_names),
    ]


def _format_size(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.1f} MB"
