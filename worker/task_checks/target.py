"""What is checked: a pipeline of the catalogue, without its guards and prompts, which are not the task's."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from models import tasks
from models.errors import InvalidParameters, SettingsError, UnknownPipeline, UsageError
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.tasks.own.own_spec import OwnTaskSpec
from models.tasks.spec import TaskSpec

# The checks run many inputs; these keep generated texts equal, and short.
GREEDY = {"do_sample": False}
SHORT = {"max_new_tokens": 8}
SEED = {"seed": 1}


def find_pipeline(catalogue: Catalogue, name: str) -> Pipeline:
    """Find the pipeline with this name, or the first one that has the task with this name.

    Raises UsageError that says how a task gets a pipeline, and UnknownPipeline if it is no task either.
    """
    if name in catalogue or name in catalogue.unusable:
        return _bare(catalogue[name])
    try:
        spec = tasks.find_spec(tasks.canonical_name(name))
    except SettingsError:  # its package is broken
        raise
    except UsageError:
        raise UnknownPipeline(name, list(catalogue)) from None
    for pipeline in catalogue.values():
        if pipeline.spec.name == spec.name:
            return _bare(pipeline)
    raise UsageError(
        f'no pipeline has the task {spec.name}; add [pipelines.NAME] with task = "{spec.name}" and model to '
        "batchmill.toml"
    )


def choose_parameters(spec: TaskSpec, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters to check a task with, the pipeline's own among them.

    Raises UsageError if equal inputs get different outputs with all of them.
    """
    own = {**(spec.task.example_parameters if isinstance(spec, OwnTaskSpec) else {}), **own}
    known = spec.parameters.model_fields
    greedy, short, seed = (
        {name: value for name, value in extra.items() if name in known} for extra in (GREEDY, SHORT, SEED)
    )
    seeded = None
    for candidate in ({**own, **greedy, **short}, {**seed, **own, **short}, {**seed, **own}, own):
        with suppress(InvalidParameters):
            parameters = spec.check_parameters(candidate)
            if not spec.is_random(parameters):
                return parameters
            seeded = seeded or (parameters if seed.keys() & parameters.keys() else None)
    if seeded is None:
        raise UsageError(
            f"{spec.name} draws random numbers, so no two answers can be compared; give it a parameter seed"
        )
    return seeded


def _bare(pipeline: Pipeline) -> Pipeline:
    return pipeline.model_copy(update={"guards": {}, "prompt": None, "system": None})
