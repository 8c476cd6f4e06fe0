"""The collator, which turns rows of token ids into the tensors of one forward pass."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import structlog
import torch

from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization.special_tokens import TemplatedRow, have_equal_templates, join_types
from worker.layers.ragged_rows import Integers, flat_indices, to_device
from worker.leasing.leases import Job

log = structlog.get_logger(__name__)

# Short texts fill a GPU's token budget only if there are many of them.
MAX_ROWS, MAX_CUDA_ROWS = 512, 4_096

# Pipelines of this process whose first cut input is logged: a pipeline may be loaded again, or have several collators.
_logged_truncations: set[str | None] = set()

# Matrix products of another shape may sum in another order. Deterministic passes therefore have a shape that depends on
# the row alone: a width rounded up in steps, and a fixed number of rows, filled up by repeating the last one. Steps are
# wider for longer texts, which are few. The number of rows is a power of two because threads share a product evenly:
# of 5 rows, one crossed the border between two threads and came out different from the others.
WIDTH_STEPS = ((128, 16), (256, 32), (10**9, 64))
DETERMINISTIC_TOKENS = {"cpu": 256, "cuda": 8_192, "mps": 2_048}


class Collator:
    """Pads the rows of a micro-batch to one width.

    limits: those of the pipeline; the first row that is longer and was cut is logged.
    deterministic: let a pass's shape depend on the row alone, None = as the limits say.
    padding_side: where the model expects padding.
    pad_values: padding by feature; the default is the tokenizer's value, else 0.
    fixed_rows: rows of a deterministic pass, None = as many as the device's token limit allows at its width.
    """

    def __init__(
        self,
        tokenizer: Any,
        device: Any,
        limits: Limits,
        *,
        deterministic: bool | None = None,
        padding_side: Literal["left", "right"] = "right",
        pad_values: Mapping[str, int] | None = None,
        fixed_rows: int | None = None,
    ) -> None:
        self._device = device
        self._limits = limits
        self._deterministic = limits.deterministic if deterministic is None else deterministic
        self._padding_side = padding_side
        self._fixed_rows = fixed_rows
        self._pad_values = {
            "input_ids": tokenizer.pad_token_id or 0,
            "token_type_ids": tokenizer.pad_token_type_id,
            **(pad_values or {}),
        }
        # Without a padding token rows can't share a pass, unless the caller names a substitute.
        self._cannot_pad = tokenizer.pad_token_id is None and "input_ids" not in (pad_values or {})
        self.max_rows = MAX_CUDA_ROWS if device.type == "cuda" else MAX_ROWS
        if self._cannot_pad:
            self.max_rows = 1

    def make_row(
        self,
        job: Job,
        features: Mapping[str, Any],
        *,
        truncated: bool = False,
        key: Hashable = None,
        part_index: int = 0,
        part_count: int = 1,
        equal_lengths: bool = False,
        window_count: int = 1,
    ) -> Row:
        """A row of these features, each an array of C ints with one for each token.

        key: only rows with an equal key share a pass.
        equal_lengths: never pad this row.
        """
        length = len(features["input_ids"])
        if truncated:
            self.log_truncation()
        if not self._deterministic or self._cannot_pad:
            key = (key, length) if equal_lengths else key
            return Row(job, features, length, truncated, key, part_index, part_count, window_count=window_count)
        width = length if equal_lengths else self._round_width(length)
        return Row(
            job,
            features,
            length,
            truncated,
            (key, width),
            part_index,
            part_count,
            width,
            self._deterministic_rows(width),
            window_count=window_count,
        )

    def collate(self, micro_batch: MicroBatch, *, with_mask: bool = True) -> dict[str, torch.Tensor]:
        """int64 `(rows, width)` for each feature and, `with_mask`, the `attention_mask`; filler rows come last."""
        rows: Sequence[Row] = micro_batch.rows
        rows = (*rows, *[rows[-1]] * ((rows[0].max_rows or 0) - len(rows)))
        width = micro_batch.width
        lengths = np.array([row.length for row in rows], dtype=np.int64)
        starts = width * np.arange(len(rows))
        indices = flat_indices(starts + (width - lengths if self._padding_side == "left" else 0), lengths)
        names = [name for name in rows[0].features if name != "attention_mask"]
        padded = {
            name: self._pad(_join([row.features for row in rows], name), indices, (len(rows), width), name)
            for name in names
        }
        if with_mask:
            padded["attention_mask"] = self._pad(1, indices, (len(rows), width), "attention_mask")
        return dict(zip(padded, to_device(list(padded.values()), self._device), strict=True))

    def log_truncation(self) -> None:
        """Log the first input of the pipeline that is cut, and no other."""
        if self._limits.pipeline not in _logged_truncations:
            _logged_truncations.add(self._limits.pipeline)
            log.warning("input.truncated", pipeline=self._limits.pipeline, max_length=self._limits.max_length)

    def _round_width(self, length: int) -> int:
        step = next(step for max_length, step in WIDTH_STEPS if length <= max_length)
        width = -(-length // step) * step
        max_width = self._limits.max_length
        return width if max_width is None else max(length, min(width, max_width))

    def _deterministic_rows(self, width: int) -> int:
        if self._fixed_rows is not None:
            return self._fixed_rows
        max_rows = DETERMINISTIC_TOKENS.get(self._device.type, DETERMINISTIC_TOKENS["cuda"]) // max(1, width)
        return 1 << max(0, max_rows.bit_length() - 1)

    def _pad(self, tokens: Integers | int, indices: Integers, shape: tuple[int, int], feature: str) -> Integers:
        """Put the tokens of all rows at these indices, and padding around them."""
        array = np.full(shape, self._pad_values.get(feature, 0), dtype=np.int64)
        array.reshape(-1)[indices] = tokens
        return array


def _join(features: Sequence[Any], name: str) -> Integers:
    """One array of a feature of all rows, whose C ints are copied without a Python object for each."""
    if name == "token_type_ids" and isinstance(features[0], TemplatedRow) and have_equal_templates(features):
        return join_types(features)
    return np.frombuffer(b"".join([row[name] for row in features]), np.intc).astype(np.int64)
