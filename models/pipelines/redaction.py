"""What is shown of parameters: numbers and the choices that tasks name; texts of people's own as hashes.

Labels and stop strings tell what a batch is about. Whoever may read them has them in SQL.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from models.documents import to_json
from models.pipelines.pipeline import Pipeline
from models.tasks import SPECS

HASH_DIGITS = 16


def redact_parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    """A batch's parameters, fit for logs and output: their names, and each value by `value`."""
    choices = _allowed_choices()
    return {name: redact_value(said, choices.get(name, frozenset())) for name, said in params.items()}


def redact_pipeline(entry: Pipeline) -> dict[str, Any]:
    """A catalogue entry as a document, its parameters as above."""
    return {**entry.model_dump(mode="json"), "parameters": redact_parameters(entry.parameters)}


def redact_value(raw_value: Any, choices: frozenset[Any] = frozenset()) -> Any:
    """A number, a boolean, null or one of the choices as it is; else `sha256:` and the first digits of its hash."""
    if (
        raw_value is None
        or isinstance(raw_value, bool | int | float)
        or (isinstance(raw_value, str) and raw_value in choices)
    ):
        return raw_value
    return f"sha256:{hashlib.sha256(to_json(raw_value).encode(errors='surrogatepass')).hexdigest()[:HASH_DIGITS]}"


@cache
def _allowed_choices() -> dict[str, frozenset[Any]]:
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
