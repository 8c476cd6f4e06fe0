"""The guards of a pipeline as `batchmill models show` prints them: their checks, and their models on this machine."""

from typing import Any

from models.pipelines.pipeline import Pipeline
from worker.loading.files import snapshots

FETCH_ADVICE = "fetch it: batchmill models pull {}"


def describe_models(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Return the model of each guard that has one, and its revision here."""
    described = {}
    for name, guard in pipeline.guards.items():
        if (entry := pipeline.guard_pipelines.get(guard.pipeline or "")) is not None:
            files = snapshots.find_local_model(entry)
            described[name] = {
                "pipeline": entry.name,
                "model": entry.model,
                "revision": files.revision if files else entry.revision,
                "folder": str(files.folder) if files else None,
            }
    return described


def guard_lines(pipeline: Pipeline, guard_models: dict[str, dict[str, Any]], *, has_advice: bool) -> list[str]:
    """Return a line for each guard, such as `length (input): fail by more than 2,000 characters`.

    has_advice: whether the first model of the Hub that is missing comes with the command that fetches it.
    """
    lines = []
    for name, guard in pipeline.guards.items():
        check = guard.rule_summary
        if (model := guard_models.get(name)) is not None:
            revision = (model["revision"] or "unknown")[:19]
            place = "" if model["folder"] else ", which is not here"
            if place and has_advice and pipeline.guard_pipelines[model["pipeline"]].folder is None:
                place, has_advice = f"{place}; {FETCH_ADVICE.format(pipeline.name)}", False
            labels = " or ".join(guard.labels) or "any entity"
            check = f"{labels} of {model['pipeline']} ({model['model']}@{revision}{place})"
        lines.append(f"{name} ({guard.on}): {guard.action} by {check}")
    return lines
