"""The selection of results that become inputs of another batch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from models.errors import UsageError
from models.states import JobOutcome
from producer.advice import LIST_BATCHES
from producer.readers.mapping_advice import MappingAdvice
from producer.readers.results import labels as output_labels
from producer.readers.storable import is_storable

MAX_LABELS = 100


@dataclass(frozen=True, slots=True)
class ResultSelection:
    """The results of an ended batch to take.

    statuses: results with one of these.
    labels: only results with one of these labels, see `labels.py`; empty = any.
    min_score: only results with at least this score; None = any.
    tenant: to whom the batch must belong; None = to anybody.
    """

    batch_id: str
    statuses: tuple[JobOutcome, ...] = (JobOutcome.SUCCEEDED,)
    labels: tuple[str, ...] = ()
    min_score: float | None = None
    tenant: str | None = None

    @classmethod
    def create(
        cls,
        batch_id: str,
        status: str | Iterable[str] | None = None,
        labels: str | Iterable[str] | None = None,
        min_score: float | None = None,
        tenant: str | None = None,
    ) -> Self:
        """Validate a selection; raises UsageError.

        status: one of succeeded, failed, cancelled and expired, or several; None or none = succeeded.
        tenant: to whom the batch must belong; None = to anybody.
        """
        if not isinstance(batch_id, str) or not batch_id or not is_storable(batch_id):
            raise UsageError("name the batch whose results are taken by its id; " + LIST_BATCHES, param="from_batch")
        selection = cls(batch_id, _parse_statuses(status), _parse_labels(labels), _parse_score(min_score), tenant)
        if selection.reads_labels and selection.statuses != (JobOutcome.SUCCEEDED,):
            message = "labels and scores are those of outputs, so they choose among succeeded results only"
            raise UsageError(message, param="status")
        return selection

    @classmethod
    def from_options(
        cls,
        batch_id: str | None,
        status: str | Iterable[str] | None,
        labels: str | Iterable[str] | None,
        min_score: float | None,
        advice: MappingAdvice,
        tenant: str | None = None,
    ) -> Self | None:
        """The selection that a submission names, None without a batch; raises UsageError as `create` does."""
        if batch_id is not None:
            return cls.create(batch_id, status, labels, min_score, tenant)
        if status or labels or min_score is not None:
            options, batch = advice.selection
            param = "status" if status else "labels" if labels else "min_score"
            raise UsageError(f"{options} choose among the results of a batch; name it: {batch}", param=param)
        return None

    @property
    def reads_labels(self) -> bool:
        """Whether the output decides."""
        return bool(self.labels) or self.min_score is not None

    def includes_output(self, output: object, *, is_multi_label: bool = False) -> bool:
        """Whether a succeeded result with this output is taken.

        is_multi_label: whether the labels of a zero-shot classification were judged apart.
        """
        if not self.reads_labels:
            return True
        return any(
            (not self.labels or label in self.labels)
            and (self.min_score is None or (score is not None and score >= self.min_score))
            for label, score in output_labels.find_labels(output, is_multi_label=is_multi_label)
        )


def _parse_statuses(status: str | Iterable[str] | None) -> tuple[JobOutcome, ...]:
    names = [status] if isinstance(status, str) else () if status is None else status
    try:
        return tuple(dict.fromkeys(map(JobOutcome, names))) or (JobOutcome.SUCCEEDED,)
    except (TypeError, ValueError):
        raise UsageError(f"a result's status is one of {', '.join(JobOutcome)}", param="status") from None


def _parse_labels(labels: str | Iterable[str] | None) -> tuple[str, ...]:
    names = [labels] if isinstance(labels, str) else [] if labels is None else labels
    if not isinstance(names, Iterable):
        raise UsageError("labels must be a text, or a list of texts", param="labels")
    names = list(names)
    if any(not isinstance(name, str) or not name for name in names):
        raise UsageError("a label must be text that is not empty", param="labels")
    unique = tuple(dict.fromkeys(names))
    if len(unique) > MAX_LABELS:
        message = f"{len(unique)} labels are too many to choose by; at most {MAX_LABELS} are taken"
        raise UsageError(message, param="labels")
    return unique


def _parse_score(min_score: float | None) -> float | None:
    if min_score is None:
        return None
    if isinstance(min_score, bool) or not isinstance(min_score, int | float) or not math.isfinite(min_score):
        raise UsageError("the least score must be a number, such as 0.9", param="min_score")
    return float(min_score)
