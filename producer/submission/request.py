"""A request: what a batch is asked to be, checked before any of its rows is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.errors import UsageError
from models.pipelines.pipeline import Pipeline
from producer.readers.storable import is_storable
from producer.times import Deadline

LONGEST_NAME = 200
LONGEST_IDEMPOTENCY_KEY = 255  # as Stripe has it
# As OpenAI's Batch object has them.
MOST_METADATA, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512
PRIORITIES = range(-1000, 1001)

# What a row that can't be a job comes to: the whole batch is refused, or the row alone fails.
ON_INVALID = REFUSE, FAIL_ROW = "refuse", "fail-row"


@dataclass(frozen=True, slots=True)
class Failures:
    """How many failed jobs a batch allows: so many, or a share of all; one more ends it."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def read(cls, said: str) -> Self:
        """Read `20` or `2.5%`; raises UsageError."""
        found = re.fullmatch(r"(\d{1,18})|(\d{1,3}(?:\.\d+)?)%", said.strip())
        if found is None or (found[2] is not None and float(found[2]) > 100):
            raise UsageError(
                f"max_failures {said[:80]!r} is not a number of jobs, such as 20, nor a share, such as 2.5%"
            )
        return cls(int(found[1])) if found[2] is None else cls(share=float(found[2]) / 100)

    def of(self, jobs: int) -> int:
        """How many of so many jobs may fail."""
        return self.count if self.count is not None else int((self.share or 0.0) * jobs)


@dataclass(frozen=True, slots=True)
class Request:
    """A batch to be, all of it checked but its rows."""

    pipeline: Pipeline
    parameters: dict[str, Any]
    name: str | None
    metadata: dict[str, str]
    priority: int
    keeps_invalid: bool
    deadline: Deadline | None = None
    max_failures: Failures | None = None
    idempotency_key: str | None = None
    reuse: bool = False  # take what earlier batches have computed

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
        deadline: str | None = None,
        max_failures: str | int | None = None,
        idempotency_key: str | None = None,
        reuse: bool = False,
    ) -> Self:
        """Raises UsageError, naming the field, when one can't be had."""
        if name is not None:
            _check_text("the name", name, LONGEST_NAME)
        if idempotency_key is not None:
            _check_text("the idempotency key", idempotency_key, LONGEST_IDEMPOTENCY_KEY)
            if not idempotency_key.strip():
                raise UsageError("the idempotency key is empty; take a name for this very submission, such as a date")
        if priority not in PRIORITIES:
            raise UsageError(f"priority {priority!r} is out of range; take {PRIORITIES[0]} to {PRIORITIES[-1]}")
        checked = pipeline.spec.check_parameters({**pipeline.parameters, **(parameters or {})})
        if on_invalid not in ON_INVALID:
            raise UsageError(f"on_invalid {on_invalid!r} is not known; take {' or '.join(ON_INVALID)}")
        return cls(
            pipeline, checked, name or None, _metadata(metadata or {}), priority, on_invalid == FAIL_ROW,
            None if deadline is None else Deadline.read(deadline),
            None if max_failures is None else Failures.read(str(max_failures)), idempotency_key,
            reuse,
        )  # fmt: skip


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
