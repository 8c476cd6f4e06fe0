"""Checks of the operator's code that pipelines name: whether it is on this machine, and in which version."""

from collections.abc import Iterable, Iterator

from models import operator_code
from models.pipelines.pipeline import Pipeline
from producer.health.findings import OK, WARNING, Finding

ADVICE = "install it here too: without it, submitters can't compare its version and reuse no results"
BROKEN_ADVICE = "correct the code or the reference; workers that have the same can't load the pipeline"


def check_logits_processors(pipelines: Iterable[Pipeline]) -> Iterator[Finding]:
    """Report the logits processors with the versions of their code, and warn about those that are not here.

    Nothing is imported, so code that fails only when it runs is not found.
    """
    versions: dict[str, str] = {}
    for pipeline in pipelines:
        for reference in pipeline.logits_processors:
            version = pipeline.operator_code[reference]
            if version is None:
                message = f"{pipeline.name}: the code of {reference} is not on this machine"
                yield Finding(WARNING, "processors", message, ADVICE)
            elif problem := operator_code.find_problem(reference):
                message = f"{pipeline.name}: {reference} can't be loaded: {problem}"
                yield Finding(WARNING, "processors", message, BROKEN_ADVICE)
            else:
                versions[reference] = version
    if versions:
        yield Finding(OK, "processors", ", ".join(f"{name} ({version})" for name, version in versions.items()))
