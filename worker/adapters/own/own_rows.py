"""Rows of a task of one's own, checked: what its author's `encode` returned becomes rows of the engine."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.errors import JobError
from worker.adapters.encoding.collation import Collator
from worker.adapters.own.task_adapter import ModelRow
from worker.adapters.own.task_errors import TaskErrors
from worker.adapters.probes.sharing import Sharing
from worker.adapters.rows import Row
from worker.adapters.tasks.job_errors import input_too_long
from worker.adapters.tokenization.token_array import TokenArray, token_array_from_bytes
from worker.leasing.leases import Job

MAX_ROWS_PER_INPUT = 10_000
MAX_NUMBER = 2**31 - 1
INPUT_IDS, ATTENTION_MASK = "input_ids", "attention_mask"


@dataclass(frozen=True, slots=True)
class OwnParameters:
    """A batch's parameters as the adapter gets them, and a key that equal ones share."""

    key: str
    values: Mapping[str, Any]


class OwnFeatures(dict[str, "TokenArray[int]"]):
    """The features of one row, with what its author needs to decode it."""

    __slots__ = ("model_row", "parameters")

    def __init__(self, arrays: Mapping[str, "TokenArray[int]"], model_row: ModelRow, parameters: OwnParameters) -> None:
        super().__init__(arrays)
        # The arrays take a ninth of the memory of lists.
        self.model_row = replace(model_row, features=arrays)
        self.parameters = parameters


class RowMaker:
    """Makes the rows of jobs.

    max_length: tokens of the longest row, None = no limit.
    sharing: which rows may share a pass.
    """

    def __init__(self, collator: Collator, errors: TaskErrors, max_length: int | None, sharing: Sharing) -> None:
        self.sharing = sharing
        self._collator, self._errors, self._max_length = collator, errors, max_length

    def make_rows(self, job: Job, encoded: object, parameters: OwnParameters) -> list[Row]:
        """Return the rows of a job. Raises JobError for what no pass can read."""
        model_rows = [encoded] if isinstance(encoded, ModelRow) else encoded
        if not isinstance(model_rows, list | tuple):
            raise self._wrong(f"gave {_describe(encoded)} where it must give a ModelRow or a list of them")
        if not 1 <= len(model_rows) <= MAX_ROWS_PER_INPUT:
            raise self._wrong(f"gave {len(model_rows):,} rows for one input, and 1 to {MAX_ROWS_PER_INPUT:,} are taken")
        features = [self._make_features(row, parameters) for row in model_rows]
        return [self._make_row(job, row, part, len(features)) for part, row in enumerate(features)]

    def _make_row(self, job: Job, features: OwnFeatures, part: int, count: int) -> Row:
        row = self._collator.make_row(
            job,
            features,
            truncated=features.model_row.truncated,
            key=(features.parameters.key, tuple(features), self._author_key(features.model_row)),
            part_index=part,
            part_count=count,
            equal_lengths=self.sharing is not Sharing.TOGETHER,
        )
        return replace(row, width=None, max_rows=1) if self.sharing is Sharing.ALONE else row

    def _make_features(self, row: object, parameters: OwnParameters) -> OwnFeatures:
        if not isinstance(row, ModelRow):
            raise self._wrong(f"gave a list with {_describe(row)} in it where all must be ModelRows")
        if not isinstance(row.features, Mapping) or INPUT_IDS not in row.features:
            raise self._wrong("gave a row without input_ids in its features")
        arrays = {str(name): self._make_array(str(name), values) for name, values in row.features.items()}
        length = len(arrays[INPUT_IDS])
        if not length or any(len(values) != length for values in arrays.values()):
            raise self._wrong("gave a row whose features are empty, or not of equal length")
        if self._max_length is not None and length > self._max_length:
            raise input_too_long(f"it has {length:,} tokens", self._max_length)
        mask = arrays.pop(ATTENTION_MASK, None)
        if mask is not None and min(mask) < 1:
            raise self._wrong("gave a row with padding; give its tokens alone")
        return OwnFeatures(arrays, row, parameters)

    def _make_array(self, name: str, values: Any) -> "TokenArray[int]":
        try:
            numbers = np.asarray(values)
        except (TypeError, ValueError):
            numbers = np.empty((0, 0))
        if numbers.ndim != 1 or (numbers.dtype.kind not in "iub" and numbers.size):
            raise self._wrong(f"gave {name} that is no list of whole numbers, one for each token")
        lowest = 0 if name == INPUT_IDS else -MAX_NUMBER
        if numbers.size and not lowest <= int(numbers.min()) <= int(numbers.max()) <= MAX_NUMBER:
            raise self._wrong(f"gave {name} with a number that is negative or too large")
        return token_array_from_bytes(numbers.astype(np.intc).tobytes())

    def _author_key(self, row: ModelRow) -> Hashable:
        try:
            hash(row.key)
        except TypeError:
            raise self._wrong("gave a row whose key can't be hashed") from None
        return row.key

    def _wrong(self, problem: str) -> JobError:
        return self._errors.wrong("encode", problem)


def _describe(value: object) -> str:
    return f"a {type(value).__name__}"


def model_rows(rows: Sequence[Row]) -> list[ModelRow]:
    """The author's rows."""
    return [row.features.model_row for row in rows]
