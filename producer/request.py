"""A request: what a batch is asked to be, checked before any of its rows is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.errors import UsageError
from models.pipeline import Pipeline
from producer.readers.rows import is_storable

LONGEST_NAME = 200
# As OpenAI's Batch object has them.
MOST_METADATA, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512
PRIORITIES = range(-1000, 1001)

# What a row that can't be a job comes to: the whole batch is refused, or the row alone fails.
ON_INVALID = REFUSE, FAIL_ROW = "refuse", "fail-row"


@dataclass(frozen=True, slots=True)
class Request:
    """A batch to be, all of it checked but its rows."""

    pipeline: Pipeline
    parameters: dict[str, Any]
    name: str | None
    metadata: dict[str, str]
    priority: int
    keeps_invalid: bool

    @classmethod
    def checked(
        cls,
        pipeline: Pipeline,
        *,
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        priority: int = 0,
        on_invalid: str = REFUSE,
    ) -> Self:
        """Raises UsageError, naming the field, when one can't be had."""
        if name is not None:
            _check_text("the name", name, LONGEST_NAME)
        if priority not in PRIORITIES:
            raise UsageError(f"priority {priority!r} is out of range; take {PRIORITIES[0]} to {PRIORITIES[-1]}")
        checked = pipeline.spec.check_parameters({**pipeline.parameters, **(parameters or {})})
        if on_invalid not in ON_INVALID:
            raise UsageError(f"on_invalid {on_invalid!r} is not known; take {' or '.join(ON_INVALID)}")
        return cls(pipeline, checked, name or None, _metadata(metadata or {}), priority, on_invalid == FAIL_ROW)


def _metadata(given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > MOST_METADATA:
        raise UsageError(f"metadata has {len(given)} entries; at most {MOST_METADATA} are kept")
    for key, value in given.items():
        _check_text("a metadata key", key, LONGEST_KEY)
        _check_text(f"metadata {key!r}", value, LONGEST_VALUE)
    return dict(given)


def _check_text(what: str, value: object, longest: int) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{what} must be text")
    if len(value) > longest:
        raise UsageError(f"{what} has {len(value):,} characters; at most {longest} are kept")
    if not is_storable(value):
        raise UsageError(f"{what} has a NUL character or half a surrogate pair, which no database stores")
