"""Checks of a pipeline before a batch is submitted: its model's files, and what live workers have loaded."""

from collections.abc import Iterable, Mapping
from typing import Any

from models.db import Database
from models.errors import SettingsError
from models.pipelines import embedding_checks, model_files
from models.pipelines.pipeline import Pipeline
from producer.workers import workers
from producer.workers.workers import WorkerView

DEFAULT_LEASE_SECONDS = 30.0


def check_model(pipeline: Pipeline, worker_views: Iterable[WorkerView] = ()) -> None:
    """Raise SettingsError if a model can't be there, or can't do what its entry asks.

    It takes fewer tokens than `max_length`, or lacks a guard's label, a prompt or the dimensions of a vector.
    The models of the guards count as well.

    A folder that does not exist here is accepted if a live worker serves the pipeline with equal settings, because
    submitters and workers may be different machines.
    """
    model_files.check_max_length(pipeline)
    model_files.check_guards(pipeline)
    embedding_checks.check_entry(pipeline)
    hash_here = pipeline.settings_hash
    if any(worker.alive and worker.settings_hashes.get(pipeline.name) == hash_here for worker in worker_views):
        return
    model_files.check_folder(pipeline)


def check_parameters(pipeline: Pipeline, parameters: Mapping[str, Any]) -> None:
    """Raise InvalidParameters for what the model's files, as far as they are here, show to be without effect."""
    model_files.check_decoding(pipeline, parameters)
    embedding_checks.check_embedding(pipeline, parameters)


def check_before_submit(database: Database, pipeline: Pipeline, parameters: Mapping[str, Any]) -> None:
    """Check a pipeline with the workers that the database lists. Raises SettingsError and InvalidParameters."""
    check_parameters(pipeline, parameters)
    try:
        check_model(pipeline)
    except SettingsError:  # rarely, so the database is rarely asked
        check_model(pipeline, workers.list_workers(database, DEFAULT_LEASE_SECONDS))


def other_settings_warning(pipeline: Pipeline, worker_views: Iterable[WorkerView]) -> str | None:
    """Return a warning if live workers serve the pipeline with other settings than this process has; else None."""
    others = [
        worker
        for worker in worker_views
        if worker.alive and worker.settings_hashes.get(pipeline.name, pipeline.settings_hash) != pipeline.settings_hash
    ]
    if not others:
        return None
    places = ", ".join(sorted({f"{worker.host} (process {worker.pid})" for worker in others})[:3])
    if not pipeline.operator_code:
        return (
            f"workers run {pipeline.name} with other settings than batchmill.toml has here: {places}; they read it "
            "when they start, so restart them, or make the files equal"
        )
    code = ", ".join(dict.fromkeys(version or "not installed" for version in pipeline.operator_code.values()))
    return (
        f"workers run {pipeline.name} with other settings or code than there are here: {places}; its code here is "
        f"{code}; they read both when they start, so restart them, or install the same version and make the files equal"
    )
