"""What is shown of parameters: numbers and the choices that tasks name; texts of people's own as hashes.

Labels and stop strings tell what a batch is about. Whoever may read them has them in SQL.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from models.documents import as_json
from models.pipelines.pipeline import Pipeline
from models.tasks import SPECS

HASH_DIGITS = 16


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """A batch's parameters, fit for logs and output: their names, and each value by `value`."""
    choices = _choices()
    return {name: value(said, choices.get(name, frozenset())) for name, said in given.items()}


def pipeline(entry: Pipeline) -> dict[str, Any]:
    """A catalogue entry as a document, its parameters as above."""
    return {**entry.model_dump(mode="json"), "parameters": parameters(entry.parameters)}


def value(said: Any, choices: frozenset[Any] = frozenset()) -> Any:
    """A number, a boolean, null or one of the choices as it is; else `sha256:` and the first digits of its hash."""
    if said is None or isinstance(said, bool | int | float) or (isinstance(said, str) and said in choices):
        return said
    return f"sha256:{hashlib.sha256(as_json(said).encode(errors='surrogatepass')).hexdigest()[:HASH_DIGITS]}"


@cache
def _choices() -> dict[str, frozenset[Any]]:
    found: dict[str, set[Any]] = {}
    for spec in SPECS:
        for name, field in spec.parameters.model_fields.items():
            found.setdefault(name, set()).update(_literals(field.annotation))
    return {name: frozenset(choices) for name, choices in found.items()}


def _literals(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for part in get_args(annotation):
        yield from _literals(part)
