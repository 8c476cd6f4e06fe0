"""A screening is what the guards of one stage made of one input or output."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.guards.verdict import Verdict

VERDICT_BYTES = 250  # memory of a verdict with its score


@dataclass(frozen=True, slots=True)
class Screening:
    """The verdicts on one document, and what becomes of it.

    verdicts: of each guard that ran, in order.
    device_seconds: of each guard that has a model.
    redacted: the document to use instead, None = it stays as it is.
    keep_original: whether the document as submitted is kept beside the redacted one.
    error: why its job must not go on; None = no guard is against it.
    """

    verdicts: tuple[Verdict, ...] = ()
    device_seconds: Mapping[str, float] | None = None
    redacted: Any = None
    keep_original: bool = False
    error: Exception | None = None

    @property
    def memory_bytes(self) -> int:
        """The approximate size in memory, without the document."""
        return VERDICT_BYTES * (1 + len(self.verdicts))
