"""The pipelines that a batch can be submitted to, as the page offers them."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.db import Database
from models.pipelines.pipeline import Pipeline
from producer.catalogue import examples
from producer.server.context import ServerContext
from producer.server.native.shown import hide_folders
from producer.workers import workers

FIRST = "sample-sentiment-analysis"  # its model is bundled, and takes any text


@dataclass(frozen=True, slots=True)
class PipelineChoice:
    """One pipeline.

    model: without folders, for tenants
    workers: processes that serve it now
    prompt_fields: the names that its prompt has
    """

    name: str
    task: str
    model: str
    description: str
    workers: int
    pipeline: Pipeline
    has_example: bool

    @property
    def prompt_fields(self) -> tuple[str, ...]:
        """The fields of a row that the operator's prompt names."""
        return () if self.pipeline.template is None else self.pipeline.template.names


def group_by_task(context: ServerContext) -> dict[str, list[Pipeline]]:
    """Return the catalogue's pipelines by task; tasks and pipelines by name."""
    groups: dict[str, list[Pipeline]] = {}
    for pipeline in sorted(context.catalogue.values(), key=lambda item: (item.task, item.name)):
        groups.setdefault(pipeline.task, []).append(pipeline)
    return groups


def served_pipelines(database: Database, lease_seconds: float) -> Mapping[str, int]:
    """Return the number of live workers by pipeline."""
    return workers.count_serving(workers.list_workers(database, lease_seconds))


def choose(catalogue: Mapping[str, Pipeline], wanted: str | None, served: Mapping[str, int]) -> str | None:
    """Return the pipeline to begin with; None without any. Pure.

    It is the wanted one, or else one that a worker serves, or one whose model comes with Batchmill.
    """
    if wanted and wanted in catalogue:
        return wanted
    begin = [name for name in catalogue if name == FIRST or name in served]
    names = sorted(begin or catalogue, key=lambda name: (name not in served, name != FIRST, name))
    return names[0] if names else None


def describe(pipeline: Pipeline, served: Mapping[str, int], tenant: str | None) -> PipelineChoice:
    """Return a pipeline as its reader may see it."""
    shown = hide_folders({"model": pipeline.model}, tenant)
    return PipelineChoice(
        name=pipeline.name,
        task=pipeline.task,
        model=shown["model"],
        description=pipeline.description,
        workers=served.get(pipeline.name, 0),
        pipeline=pipeline,
        has_example=examples.example_lines(pipeline) is not None,
    )
